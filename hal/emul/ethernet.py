"""An Ethernet port whose cable and interface the simulator controls."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface

from hal.ethernet import Counters, EthernetError, EthernetErrorKind, PortTraffic


class EmulEthernetPortBackend:
    """Control of an emulated Ethernet port. For the simulator and for tests."""

    def __init__(self, port: EmulEthernetPort) -> None:
        self._port = port
        self.speed: int | None = 1000
        """Negotiated speed in Mbit/s; None emulates a driver that does not report it."""
        self.addresses: list[IPv4Interface | IPv6Interface] = []
        """The addresses that the operating system has configured."""
        self.received = self.sent = PortTraffic()
        """The port's traffic counters."""

    def plug(self) -> None:
        """Plug the cable in, with an active link partner."""
        self._port._set(plugged=True)

    def unplug(self) -> None:
        """Unplug the cable."""
        self._port._set(plugged=False)

    def remove_device(self) -> None:
        """Remove the interface, as when a card drops off its bus."""
        self._port._set(present=False)

    def restore_device(self) -> None:
        """Add the interface again: closed, counters zero, no addresses, as the kernel presents a new one."""
        self.received = self.sent = PortTraffic()
        self.addresses = []
        self._port._set(present=True, up=False)

    def receive(self, frames: int, frame_bytes: int) -> None:
        """Have the partner send frames; they are counted only if the port is open and its cable plugged in."""
        if self._port.carrier():
            self.received = _more(self.received, frames, frame_bytes)

    def send(self, frames: int, frame_bytes: int) -> None:
        """Send frames from this machine; counted as in `receive`."""
        if self._port.carrier():
            self.sent = _more(self.sent, frames, frame_bytes)


def _more(traffic: PortTraffic, frames: int, frame_bytes: int) -> PortTraffic:
    return traffic._replace(bytes=traffic.bytes + frames * frame_bytes, packets=traffic.packets + frames)


class EmulEthernetPort:
    """`hal.ethernet.EthernetPort`. Watchers are called synchronously at each change."""

    def __init__(self, name: str, *, up: bool = True) -> None:
        self._name, self._plugged, self._up, self._present = name, True, up, True
        self._watchers: dict[object, Callable[[bool], None]] = {}
        self.backend = EmulEthernetPortBackend(self)

    @property
    def name(self) -> str:
        """See `EthernetPort.name`."""
        return self._name

    def carrier(self) -> bool:
        """See `EthernetPort.carrier`."""
        return self._plugged and self._up and self._present

    def watch(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        """See `EthernetPort.watch`."""
        key = object()
        self._watchers[key] = changed
        return lambda: self._watchers.pop(key, None) and None

    def speed(self) -> int | None:
        """See `EthernetPort.speed`."""
        return self.backend.speed if self.carrier() else None

    def addresses(self) -> tuple[IPv4Interface | IPv6Interface, ...]:
        """See `EthernetPort.addresses`."""
        self._check_present()
        return tuple(sorted(self.backend.addresses, key=lambda address: address.version))

    def counters(self) -> Counters:
        """See `EthernetPort.counters`."""
        self._check_present()
        return Counters(self.backend.received, self.backend.sent)

    def set_up(self, up: bool) -> None:
        """See `EthernetPort.set_up`."""
        self._check_present()
        self._set(up=up)

    def _check_present(self) -> None:
        if not self._present:
            raise EthernetError(
                EthernetErrorKind.UNAVAILABLE, f"{self._name}: the interface no longer exists"
            )

    def _set(
        self, *, plugged: bool | None = None, up: bool | None = None, present: bool | None = None
    ) -> None:
        before = self.carrier()
        self._plugged = self._plugged if plugged is None else plugged
        self._up = self._up if up is None else up
        self._present = self._present if present is None else present
        carrier = self.carrier()
        if carrier == before:
            return
        for key, changed in list(self._watchers.items()):
            if key in self._watchers:  # an earlier watcher may have stopped this one
                changed(carrier)
