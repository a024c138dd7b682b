# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Detects changes by other programs to the firewall's table and its surroundings."""
