"""An Ethernet port by the kernel's name, through sysfs.

`/sys/class/net/NAME/carrier` reads 1 or 0, and EINVAL while the interface is administratively down. sysfs
tells nobody when it changes, so watching means looking once a second: soon enough for a forwarder that has
timeouts of its own, and it needs no privilege and no library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

POLL_SECONDS = 1.0


class LinuxEthernetPort:
    """`hal.ethernet.EthernetPort`: `name` is the board's, `interface` the kernel's."""

    def __init__(self, name: str, interface: str, *, sysfs: Path = Path("/sys/class/net")) -> None:
        self._name = name
        self._path = sysfs / interface / "carrier"

    @property
    def name(self) -> str:
        """See `EthernetPort.name`."""
        return self._name

    def carrier(self) -> bool:
        """See `EthernetPort.carrier`."""
        try:
            return self._path.read_text().strip() == "1"
        except OSError:
            return False

    def watch(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        """See `EthernetPort.watch`. Needs a running event loop."""
        return _Watch(self, changed).stop


class _Watch:
    """Look once a second, from now until `stop`."""

    def __init__(self, port: LinuxEthernetPort, changed: Callable[[bool], None]) -> None:
        self._port, self._changed, self._seen = port, changed, port.carrier()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(POLL_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = self._loop.call_later(POLL_SECONDS, self._look)
        carrier = self._port.carrier()
        if carrier != self._seen:
            self._seen = carrier
            self._changed(carrier)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
