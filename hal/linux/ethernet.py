# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""An Ethernet port by its kernel interface name, through netlink and ethtool.

Link events arrive on the event loop's thread. An event is only a reason to query the current state, so that
incomplete events do no harm: after an overrun (ENOBUFS), or when the interface was removed or reappeared with another
index, the next query returns the right state. The kernel reports at most one loss of carrier a second
(`net/core/link_watch.c`), so that a loose plug cannot flood the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Interface, IPv6Interface

from hal.ethernet import Counters, EthernetError, EthernetErrorKind
from hal.linux import netlink
from hal.linux.ethtool import ethtool_speed

_EVENT_BYTES_MAX = 1 << 16
_UNKNOWN_SPEEDS = (0, 0xFFFFFFFF)  # SPEED_UNKNOWN is -1; some drivers report 0
_KINDS = {
    errno.ENODEV: EthernetErrorKind.UNAVAILABLE,
    errno.EPERM: EthernetErrorKind.DENIED,
    errno.EACCES: EthernetErrorKind.DENIED,
}


class LinuxEthernetPort:
    """`hal.ethernet.EthernetPort`: `name` is the board's, `interface` the kernel's, which need not exist yet."""

    def __init__(self, name: str, interface: str) -> None:
        self._name, self._interface = name, interface
        self._events: _Events | None = None

    @property
    def name(self) -> str:
        """See `EthernetPort.name`."""
        return self._name

    def carrier(self) -> bool:
        """See `EthernetPort.carrier`."""
        try:
            return bool(netlink.interface_info(self._interface).flags & netlink.IFF_LOWER_UP)
        except OSError:
            return False

    def watch(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        """See `EthernetPort.watch`. Requires a running event loop, and must be stopped on the same loop."""
        if self._events is None or self._events.closed:
            self._events = _Events(self.carrier)
        return self._events.add_watcher(changed)

    def speed(self) -> int | None:
        """See `EthernetPort.speed`."""
        if not self.carrier():
            return None
        try:
            mbits = ethtool_speed(self._interface)
        except OSError:
            return None
        return None if mbits in _UNKNOWN_SPEEDS else mbits

    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """See `EthernetPort.addresses`."""
        with self._errors():
            addresses = netlink.addresses(self._interface)
        return tuple(sorted(addresses, key=lambda address: address.version))

    def counters(self) -> Counters:
        """See `EthernetPort.counters`."""
        with self._errors():
            return netlink.interface_info(self._interface).counters

    def set_up(self, up: bool) -> None:
        """See `EthernetPort.set_up`. Needs CAP_NET_ADMIN."""
        with self._errors():
            netlink.set_link_up(self._interface, up)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = _KINDS.get(error.errno or 0, EthernetErrorKind.IO)
            raise EthernetError(kind, f"{self._name} ({self._interface}): {error.strerror}") from error


class _Events:
    """The kernel's link events on the running loop; the socket is open while there are watchers."""

    def __init__(self, carrier: Callable[[], bool]) -> None:
        self._watchers: dict[object, Callable[[bool], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._socket = netlink.open_link_events()
        self._loop.add_reader(self._socket, self._changed)
        # queried after the subscription, so that no change is missed
        self._carrier, self._reported = carrier, carrier()

    @property
    def closed(self) -> bool:
        return not self._watchers

    def add_watcher(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        key = object()
        self._watchers[key] = changed
        return lambda: self._stop(key)

    def _stop(self, key: object) -> None:
        if self._watchers.pop(key, None) and not self._watchers:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _changed(self) -> None:
        self._drain()
        carrier = self._carrier()
        if carrier == self._reported:
            return
        self._reported = carrier
        for key, changed in list(self._watchers.items()):
            if key in self._watchers:  # an earlier watcher may have removed this one
                changed(carrier)

    def _drain(self) -> None:
        """Read and discard all events. An overrun (ENOBUFS) is one read error; later events follow it."""
        while True:
            try:
                self._socket.recv(_EVENT_BYTES_MAX, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
