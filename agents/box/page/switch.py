"""The switches of the box as evidence of a person's presence.

A switch rests in one position. A short press (a change of position and back) counts as evidence for the displayed
offer. A press of LONG_SECONDS ends all sessions, even if the switch never returns. With a cover switch, a press is
opening and closing the cover. Only observed changes count: the position at the start is not a press.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from hal.indicators import IndicatorError, Indicators

LONG_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 60.0
"""Pause before a switch that cannot be read is tried again."""


async def watch_switches(
    indicators: Indicators,
    names: Iterable[str],
    pressed: Callable[[str], Awaitable[object]],
    held: Callable[[], Awaitable[object]],
) -> None:
    """Call `pressed` with the name of a switch after a short press, `held` during a long one, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(_watch(indicators, name, pressed, held))


async def _watch(
    indicators: Indicators,
    name: str,
    pressed: Callable[[str], Awaitable[object]],
    held: Callable[[], Awaitable[object]],
) -> None:
    while True:
        positions: asyncio.Queue[bool] = asyncio.Queue()
        try:
            stop = indicators.watch(name, positions.put_nowait)
        except IndicatorError:
            await asyncio.sleep(RETRY_SECONDS)
            continue
        try:
            await _report_presses(indicators.closed(name), positions, name, pressed, held)
        except IndicatorError:
            await asyncio.sleep(RETRY_SECONDS)
        finally:
            stop()


async def _report_presses(
    rest_position: bool,
    positions: asyncio.Queue[bool],
    name: str,
    pressed: Callable[[str], Awaitable[object]],
    held: Callable[[], Awaitable[object]],
) -> None:
    while True:
        if await positions.get() == rest_position:
            continue
        try:
            async with asyncio.timeout(LONG_SECONDS):
                while await positions.get() != rest_position:
                    pass
        except TimeoutError:
            await held()
        else:
            await pressed(name)
