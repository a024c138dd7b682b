# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Implementation of the hardware contracts on Linux."""
