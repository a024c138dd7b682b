# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The box's firewall: a policy, the ruleset that follows from it, and the proof that the kernel holds to it."""
