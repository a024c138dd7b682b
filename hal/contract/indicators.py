"""What `hal.indicators` promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from hal.contract.patience import until
from hal.indicators import IndicatorError, IndicatorErrorKind, Indicators, Light


class IndicatorsBench(Protocol):
    """LEDs "status" and "alarm", and a switch "chassis" whose cover is closed."""

    indicators: Indicators

    def seen(self, led: str) -> Light:
        """What somebody who stands before the box sees."""
        ...

    def open_cover(self) -> None:
        """Open the chassis."""
        ...

    def close_cover(self) -> None:
        """Close it."""
        ...

    def vanish(self) -> None:
        """Take "alarm" and "chassis" away."""
        ...


def _kind(call: Callable[[], object]) -> IndicatorErrorKind | None:
    try:
        call()
    except IndicatorError as error:
        return error.kind
    return None


async def indicators_show_each_light(bench: IndicatorsBench) -> None:
    """Any light after any other, and no other LED changes."""
    bench.indicators.show("alarm", Light.OFF)
    for first in Light:
        for then in Light:
            bench.indicators.show("status", first)
            bench.indicators.show("status", then)
            assert (bench.seen("status"), bench.seen("alarm")) == (then, Light.OFF)


async def indicators_see_the_cover(bench: IndicatorsBench) -> None:
    """`closed` says what is so now."""
    assert bench.indicators.closed("chassis")
    bench.open_cover()
    assert not bench.indicators.closed("chassis")
    bench.close_cover()
    assert bench.indicators.closed("chassis")


async def indicators_tell_watchers(bench: IndicatorsBench) -> None:
    """Each change is told once; after the result of `watch` was called nothing is. Twice is harmless."""
    told: list[bool] = []
    others: list[bool] = []
    stop = bench.indicators.watch("chassis", told.append)
    stop_other = bench.indicators.watch("chassis", others.append)
    bench.open_cover()
    await until(lambda: told == others == [False])
    bench.close_cover()
    await until(lambda: told == others == [False, True])
    stop()
    stop()
    bench.open_cover()
    await until(lambda: others == [False, True, False])
    assert told == [False, True]
    stop_other()


async def indicators_know_only_the_board(bench: IndicatorsBench) -> None:
    """UNKNOWN for every call that names what the board file does not."""
    calls: list[Callable[[], object]] = [
        lambda: bench.indicators.show("chassis", Light.ON),
        lambda: bench.indicators.closed("status"),
        lambda: bench.indicators.watch("status", print),
    ]
    assert [_kind(call) for call in calls] == [IndicatorErrorKind.UNKNOWN] * len(calls)


async def indicators_say_what_is_missing(bench: IndicatorsBench) -> None:
    """MISSING for what the machine does not have; a watch begun before is harmless, and what is there works."""
    stop = bench.indicators.watch("chassis", print)
    bench.vanish()
    calls: list[Callable[[], object]] = [
        lambda: bench.indicators.show("alarm", Light.ON),
        lambda: bench.indicators.show("alarm", Light.SLOW),
        lambda: bench.indicators.closed("chassis"),
        lambda: bench.indicators.watch("chassis", print),
    ]
    assert [_kind(call) for call in calls] == [IndicatorErrorKind.MISSING] * len(calls)
    stop()
    bench.indicators.show("status", Light.ON)
    assert bench.seen("status") is Light.ON


INDICATORS_CHECKS: tuple[Callable[[IndicatorsBench], Awaitable[None]], ...] = (
    indicators_show_each_light,
    indicators_see_the_cover,
    indicators_tell_watchers,
    indicators_know_only_the_board,
    indicators_say_what_is_missing,
)
