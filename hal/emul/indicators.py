"""LEDs whose state the simulator reads, and cover switches that it operates."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hal.indicators import IndicatorError, IndicatorErrorKind, Light


class EmulIndicatorsBackend:
    """Control of emulated LEDs and switches. For the simulator and for tests."""

    def __init__(self, leds: Iterable[str], switches: Iterable[str]) -> None:
        self.lights = dict.fromkeys(leds, Light.OFF)
        """The state of each LED, by name."""
        self._closed = dict.fromkeys(switches, True)
        self._missing: set[str] = set()
        self._watchers: dict[object, tuple[str, Callable[[bool], None]]] = {}

    def open_cover(self, switch: str) -> None:
        """Open the cover of this switch."""
        self._move(switch, closed=False)

    def close_cover(self, switch: str) -> None:
        """Close the cover of this switch."""
        self._move(switch, closed=True)

    def remove_device(self, name: str) -> None:
        """Remove an LED or a switch."""
        self._missing.add(name)
        self._watchers = {key: watcher for key, watcher in self._watchers.items() if watcher[0] != name}

    def _move(self, switch: str, *, closed: bool) -> None:
        if self._closed[switch] == closed:
            return
        self._closed[switch] = closed
        for key, (watched, changed) in list(self._watchers.items()):
            if watched == switch and key in self._watchers:  # an earlier watcher may have stopped this one
                changed(closed)


class EmulIndicators:
    """`hal.indicators.Indicators`. Watchers are called synchronously at each change."""

    def __init__(self, leds: Iterable[str], switches: Iterable[str]) -> None:
        self.backend = EmulIndicatorsBackend(leds, switches)

    def show(self, led: str, light: Light) -> None:
        """See `Indicators.show`."""
        self._check(led, self.backend.lights)
        self.backend.lights[led] = light

    def closed(self, switch: str) -> bool:
        """See `Indicators.closed`."""
        self._check(switch, self.backend._closed)
        return self.backend._closed[switch]

    def watch(self, switch: str, changed: Callable[[bool], None]) -> Callable[[], None]:
        """See `Indicators.watch`."""
        self._check(switch, self.backend._closed)
        key = object()
        self.backend._watchers[key] = switch, changed
        return lambda: self.backend._watchers.pop(key, None) and None

    def _check(self, name: str, known: Iterable[str]) -> None:
        if name not in known:
            raise IndicatorError(IndicatorErrorKind.UNKNOWN, f"the board file has no LED or switch {name!r}")
        if name in self.backend._missing:
            raise IndicatorError(IndicatorErrorKind.MISSING, f"{name}: there is no such device")
