"""Conformance checks of `hal.indicators`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hal.contract.wait import wait_until
from hal.indicators import IndicatorError, IndicatorErrorKind, Indicators, Light


class IndicatorsBench(Protocol):
    """LEDs "status" and "alarm", and the switch "chassis" of a closed cover."""

    indicators: Indicators

    def visible_light(self, led: str) -> Light:
        """Return the light that the LED visibly shows."""
        ...

    def open_cover(self) -> None:
        """Open the chassis cover."""
        ...

    def close_cover(self) -> None:
        """Close the chassis cover."""
        ...

    def remove_device(self) -> None:
        """Remove the devices of "alarm" and "chassis"."""
        ...


def _kind(call: Callable[[], object]) -> IndicatorErrorKind | None:
    try:
        call()
    except IndicatorError as error:
        return error.kind
    return None


async def indicators_show_each_light(bench: IndicatorsBench) -> None:
    """Every light can follow every other, and no other LED changes."""
    bench.indicators.show("alarm", Light.OFF)
    for first in Light:
        for then in Light:
            bench.indicators.show("status", first)
            bench.indicators.show("status", then)
            assert (bench.visible_light("status"), bench.visible_light("alarm")) == (then, Light.OFF)


async def indicators_detect_the_cover(bench: IndicatorsBench) -> None:
    """`closed` follows the cover's state."""
    assert bench.indicators.closed("chassis")
    bench.open_cover()
    assert not bench.indicators.closed("chassis")
    bench.close_cover()
    assert bench.indicators.closed("chassis")


async def indicators_notify_watchers(bench: IndicatorsBench) -> None:
    """A watcher is called once for each change, and not after it was stopped; stopping twice is harmless."""
    reported: list[bool] = []
    others: list[bool] = []
    stop = bench.indicators.watch("chassis", reported.append)
    stop_other = bench.indicators.watch("chassis", others.append)
    bench.open_cover()
    await wait_until(lambda: reported == others == [False])
    bench.close_cover()
    await wait_until(lambda: reported == others == [False, True])
    stop()
    stop()
    bench.open_cover()
    await wait_until(lambda: others == [False, True, False])
    assert reported == [False, True]
    stop_other()


async def indicators_refuse_unknown_names(bench: IndicatorsBench) -> None:
    """Every call with a name that is not in the board file raises UNKNOWN."""
    calls: list[Callable[[], object]] = [
        lambda: bench.indicators.show("chassis", Light.ON),
        lambda: bench.indicators.closed("status"),
        lambda: bench.indicators.watch("status", print),
    ]
    assert [_kind(call) for call in calls] == [IndicatorErrorKind.UNKNOWN] * len(calls)


async def indicators_report_missing_devices(bench: IndicatorsBench) -> None:
    """Calls for a removed device raise MISSING; stopping a watcher of it is harmless; other devices work."""
    stop = bench.indicators.watch("chassis", print)
    bench.remove_device()
    calls: list[Callable[[], object]] = [
        lambda: bench.indicators.show("alarm", Light.ON),
        lambda: bench.indicators.show("alarm", Light.SLOW),
        lambda: bench.indicators.closed("chassis"),
        lambda: bench.indicators.watch("chassis", print),
    ]
    assert [_kind(call) for call in calls] == [IndicatorErrorKind.MISSING] * len(calls)
    stop()
    bench.indicators.show("status", Light.ON)
    assert bench.visible_light("status") is Light.ON


INDICATORS_CHECKS: tuple[Callable[[IndicatorsBench], Awaitable[None]], ...] = (
    indicators_show_each_light,
    indicators_detect_the_cover,
    indicators_notify_watchers,
    indicators_refuse_unknown_names,
    indicators_report_missing_devices,
)
