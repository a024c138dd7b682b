# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Settings files: shared types, site facts, boards, TOML in and out. Imports no other package of the project."""
