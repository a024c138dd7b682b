"""An Ethernet port whose cable the simulator plugs and pulls."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface

from hal.ethernet import Counters, EthernetError, EthernetErrorKind, PortTraffic


class EmulEthernetPortBackend:
    """What the world does to a port. For the simulator and for tests."""

    def __init__(self, port: EmulEthernetPort) -> None:
        self._port = port
        self.speed: int | None = 1000
        """Mbit/s that the link partner agrees to; None is a driver that does not say."""
        self.addresses: list[IPv4Interface | IPv6Interface] = []
        """What the operating system has configured."""
        self.received = self.sent = PortTraffic()
        """What the port has counted."""

    def plug(self) -> None:
        """Put the cable in, with a live partner at its other end."""
        self._port._set(plugged=True)

    def unplug(self) -> None:
        """Pull the cable."""
        self._port._set(plugged=False)

    def vanish(self) -> None:
        """Take the interface away, as a card that fell off its bus."""
        self._port._set(present=False)

    def come_back(self) -> None:
        """Give the interface back: closed, with nothing counted and no addresses, as a kernel presents a new one."""
        self.received = self.sent = PortTraffic()
        self.addresses = []
        self._port._set(present=True, up=False)

    def receive(self, frames: int, frame_bytes: int) -> None:
        """Let the partner send so many frames; only what reaches an open port with its cable in is counted."""
        if self._port.carrier():
            self.received = _more(self.received, frames, frame_bytes)

    def send(self, frames: int, frame_bytes: int) -> None:
        """Let this machine send so many frames."""
        if self._port.carrier():
            self.sent = _more(self.sent, frames, frame_bytes)


def _more(traffic: PortTraffic, frames: int, frame_bytes: int) -> PortTraffic:
    return traffic._replace(bytes=traffic.bytes + frames * frame_bytes, packets=traffic.packets + frames)


class EmulEthernetPort:
    """`hal.ethernet.EthernetPort`. Watchers are called at the very moment of the change."""

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
            raise EthernetError(EthernetErrorKind.GONE, f"{self._name}: the interface is gone")

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
