# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The box's firewall: the policy, the ruleset generated from it, its enforcement in the kernel, and its proof."""
