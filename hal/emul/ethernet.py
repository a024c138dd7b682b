"""An Ethernet port whose cable the simulator plugs and pulls."""

from __future__ import annotations

from collections.abc import Callable


class EmulEthernetPortBackend:
    """What the world does to a port. For the simulator and for tests."""

    def __init__(self, port: EmulEthernetPort) -> None:
        self._port = port

    def plug(self) -> None:
        """Put the cable in, with a live partner at its other end."""
        self._port._set(True)

    def unplug(self) -> None:
        """Pull the cable."""
        self._port._set(False)


class EmulEthernetPort:
    """`hal.ethernet.EthernetPort`. Watchers are called at the very moment of the change."""

    def __init__(self, name: str, *, plugged: bool = True) -> None:
        self._name, self._carrier = name, plugged
        self._watchers: dict[object, Callable[[bool], None]] = {}
        self.backend = EmulEthernetPortBackend(self)

    @property
    def name(self) -> str:
        """See `EthernetPort.name`."""
        return self._name

    def carrier(self) -> bool:
        """See `EthernetPort.carrier`."""
        return self._carrier

    def watch(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        """See `EthernetPort.watch`."""
        key = object()
        self._watchers[key] = changed
        return lambda: self._watchers.pop(key, None) and None

    def _set(self, carrier: bool) -> None:
        if carrier == self._carrier:
            return
        self._carrier = carrier
        for key, changed in list(self._watchers.items()):
            if key in self._watchers:  # an earlier watcher may have stopped this one
                changed(carrier)
