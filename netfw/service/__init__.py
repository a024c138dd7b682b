# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall service: the one program that may change the firewall, and its protocol."""
