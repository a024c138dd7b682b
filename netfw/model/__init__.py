# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Executable model of the ruleset and connection tracking, for simulation and for comparison with the kernel."""
