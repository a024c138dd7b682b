# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Errors of the firewall, apart from `netfw.kernel.nft` so that a program can name them without loading
libnftables."""

from __future__ import annotations

from enum import StrEnum


class FirewallErrorKind(StrEnum):
    """What a caller can do about a FirewallError."""

    LACKING = "lacking"
    """The machine has no libnftables, or its kernel no nf_tables: install it."""
    DENIED = "denied"
    """This process may not: be root, or have CAP_NET_ADMIN in this network namespace."""
    REFUSED = "refused"
    """The kernel does not take it; what was in force still is."""
    UNFIT = "unfit"
    """What was asked does not fit the policy."""


class FirewallError(Exception):
    """The firewall could not do what was asked, and nothing was changed."""

    def __init__(self, kind: FirewallErrorKind, message: str) -> None:
        super().__init__(kind, message)  # both, as pickle makes the copy of these
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[1])
