# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall service, the only program that changes the firewall, and its protocol."""
