# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Ethernet port: whether a cable is in it, what passes through it, and who may open it.

The box keeps its instrument ports administratively down until its firewall is in force, so opening and closing
is part of the trait; what addresses a port has is the operating system's configuration, and only shown here.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface
from typing import NamedTuple, Protocol


class EthernetErrorKind(StrEnum):
    """What the caller can do about it."""

    GONE = "gone"  # there is no such interface (any more): it may come back
    DENIED = "denied"  # this process may not: it needs CAP_NET_ADMIN
    IO = "io"  # the driver refused


class EthernetError(Exception):
    """An operating error of an Ethernet port; callers branch on `kind` alone."""

    def __init__(self, kind: EthernetErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class PortTraffic(NamedTuple):
    """What went one way since the interface came into being (RFC 2863, `ifHCInOctets` and its like).

    `dropped` are intact packets that went no further: no room, or nobody who wanted them.
    """

    bytes: int = 0
    packets: int = 0
    errors: int = 0
    dropped: int = 0


class Counters(NamedTuple):
    """Traffic both ways, as the port sees it."""

    received: PortTraffic = PortTraffic()
    sent: PortTraffic = PortTraffic()


class EthernetPort(Protocol):
    """One physical port of the board, known by the board file's name ("uplink", "port1", …).

    Every call is quick and may be made on the event loop's thread.
    """

    @property
    def name(self) -> str:
        """The board's name for the port."""
        ...

    def carrier(self) -> bool:
        """Whether the port sees a link partner now. Never fails: a port that is closed or vanished has none."""
        ...

    def watch(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        """Call `changed(carrier)` on the event loop's thread at each change, until the result is called.

        A port that vanishes has lost its carrier; that it came back is told like any other change. A change
        that reverts before it was noticed may be left out; the last call is always the present state.
        """
        ...

    def speed(self) -> int | None:
        """Mbit/s as agreed with the link partner; None without carrier or where the driver does not say."""
        ...

    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """The port's addresses with their subnets, IPv4 first. Raises: GONE, IO."""
        ...

    def counters(self) -> Counters:
        """What has passed so far. Raises: GONE, IO."""
        ...

    def set_up(self, up: bool) -> None:
        """Open or close the port.

        On return a closed port passes nothing either way and has no carrier; an opened one has begun to look
        for its partner. Saying again what is so already changes nothing. Raises: GONE, DENIED, IO.
        """
        ...
