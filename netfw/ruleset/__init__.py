# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""From a policy to a ruleset, as libnftables' JSON. Pure functions."""
