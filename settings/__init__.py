# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""What several parts share and people write: site facts, boards, and reading TOML. Imports nothing of the project."""
