"""The switches of the box: a short press is evidence, a long one ends all sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agents.box.page.switch import LONG_SECONDS, RETRY_SECONDS, watch_switches
from hal.emul.indicators import EmulIndicators, EmulIndicatorsBackend
from sim.net.loop import SimLoop

Events = list[str]


def run(
    act: Callable[[EmulIndicatorsBackend, Events], Awaitable[None]], *, starts_open: bool = False
) -> Events:
    """Call `act` while the switches are watched; return the reported presses."""
    events: Events = []

    async def pressed(name: str) -> None:
        events.append(f"pressed {name}")

    async def held() -> None:
        events.append("held")

    async def inside() -> None:
        indicators = EmulIndicators((), ("chassis", "front"))
        if starts_open:
            indicators.backend.open_cover("chassis")
        watching = asyncio.ensure_future(watch_switches(indicators, ("chassis", "front"), pressed, held))
        await asyncio.sleep(1)
        await act(indicators.backend, events)
        await asyncio.sleep(1)
        watching.cancel()

    loop = SimLoop()
    loop.run_until_complete(inside())
    assert not loop.failures
    return events


def test_a_short_press_is_one_press() -> None:
    async def act(box: EmulIndicatorsBackend, events: Events) -> None:
        box.open_cover("chassis")
        await asyncio.sleep(LONG_SECONDS / 2)
        assert not events
        box.close_cover("chassis")
        await asyncio.sleep(2 * LONG_SECONDS)
        box.open_cover("front")
        await asyncio.sleep(0.01)
        box.close_cover("front")

    assert run(act) == ["pressed chassis", "pressed front"]


def test_a_long_press_is_reported_while_it_is_held_and_its_release_is_not_a_press() -> None:
    async def act(box: EmulIndicatorsBackend, events: Events) -> None:
        box.open_cover("chassis")
        await asyncio.sleep(LONG_SECONDS + 0.1)
        assert events == ["held"]
        box.close_cover("chassis")

    assert run(act) == ["held"]


def test_the_position_at_the_start_is_not_a_press() -> None:
    async def act(box: EmulIndicatorsBackend, events: Events) -> None:
        await asyncio.sleep(2 * LONG_SECONDS)
        assert not events
        box.close_cover("chassis")  # the change to a closed cover counts as a long press
        await asyncio.sleep(2 * LONG_SECONDS)

    assert run(act, starts_open=True) == ["held"]


def test_a_switch_that_cannot_be_read_is_tried_again_and_another_one_works() -> None:
    async def act(box: EmulIndicatorsBackend, events: Events) -> None:
        box.remove_device("chassis")
        await asyncio.sleep(2 * RETRY_SECONDS)
        box.open_cover("front")
        await asyncio.sleep(0.1)
        box.close_cover("front")

    assert run(act) == ["pressed front"]
