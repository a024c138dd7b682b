# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""An executable model of ruleset and connection tracking, for simulation and comparison with the kernel."""
