# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The ruleset in the kernel: transactions, listings, sessions, counters and the packet log."""
