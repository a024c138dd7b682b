# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Errors of the firewall; separate from `netfw.kernel.nft` so that programs can use them without loading
libnftables."""

from __future__ import annotations

from enum import StrEnum


class FirewallErrorKind(StrEnum):
    """Error kinds, by what a caller can do."""

    LACKING = "lacking"
    """libnftables or the kernel's nf_tables is missing: install it."""
    DENIED = "denied"
    """This process lacks CAP_NET_ADMIN in this network namespace: run it as root."""
    REFUSED = "refused"
    """The kernel refused the request; the previous ruleset is still in force."""
    UNFIT = "unfit"
    """The request is not valid, or contradicts the policy."""


class FirewallError(Exception):
    """The firewall could not do what was requested, and nothing was changed."""

    def __init__(self, kind: FirewallErrorKind, message: str) -> None:
        super().__init__(kind, message)  # both arguments, because pickle recreates the exception from them
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[1])
