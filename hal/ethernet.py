# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Ethernet port: carrier, speed, addresses, traffic, and administrative state.

The box keeps its instrument ports administratively down until its firewall is in force, so opening and closing are
part of the trait. Addresses are configured by the operating system; the trait only reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface
from typing import NamedTuple, Protocol


class EthernetErrorKind(StrEnum):
    """Error kinds that a caller can act on."""

    UNAVAILABLE = "unavailable"  # the interface does not exist or was removed; it may be added again
    DENIED = "denied"  # this process lacks CAP_NET_ADMIN
    IO = "io"  # the driver refused


class EthernetError(Exception):
    """An operating error of an Ethernet port; callers branch on `kind` alone."""

    def __init__(self, kind: EthernetErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class PortTraffic(NamedTuple):
    """Traffic in one direction since the interface was created (RFC 2863, `ifHCInOctets` etc.).

    `dropped` counts intact packets that were discarded, for lack of buffers or of a receiver.
    """

    bytes: int = 0
    packets: int = 0
    errors: int = 0
    dropped: int = 0


class Counters(NamedTuple):
    """Traffic in both directions, from the port's point of view."""

    received: PortTraffic = PortTraffic()
    sent: PortTraffic = PortTraffic()


class EthernetPort(Protocol):
    """One physical port of the board, with its name in the board file ("uplink", "port1", …).

    No call blocks; all may be made on the event loop's thread.
    """

    @property
    def name(self) -> str:
        """The board's name for the port."""
        ...

    def carrier(self) -> bool:
        """Return whether a link partner is present. Never fails: a closed or removed port has no carrier."""
        ...

    def watch(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        """Call `changed(carrier)` on the event loop's thread at each change; the returned function stops that.

        Removal of the interface is reported as a loss of carrier, and its carrier is reported again after it was
        added. A change that reverts before it was noticed may be omitted; the last call always has the current state.
        """
        ...

    def speed(self) -> int | None:
        """Return the negotiated speed in Mbit/s; None without carrier or if the driver does not report it."""
        ...

    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """Return the port's addresses with their prefixes, IPv4 first. Raises: UNAVAILABLE, IO."""
        ...

    def counters(self) -> Counters:
        """Return the traffic so far. Raises: UNAVAILABLE, IO."""
        ...

    def set_up(self, up: bool) -> None:
        """Open or close the port (administrative state).

        On return a closed port passes no traffic and has no carrier; an opened port has started link negotiation.
        Repeating a call has no effect. Raises: UNAVAILABLE, DENIED, IO.
        """
        ...
