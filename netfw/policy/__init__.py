# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall policy, and the reader of its file."""
