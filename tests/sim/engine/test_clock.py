"""Callbacks and SimPy events share one queue."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from simpy.core import EmptySchedule
from simpy.events import Event

from sim.engine.clock import Environment


def test_callbacks_and_events_run_in_the_order_of_time_and_then_of_scheduling() -> None:
    env, seen = Environment(), list[tuple[int, str]]()

    def process() -> Generator[Event, None, None]:
        for _ in range(2):
            yield env.timeout(5)
            seen.append((env.now, "process"))

    env.after(5, lambda name: seen.append((env.now, name)), "first")
    env.process(process())
    env.after(10, lambda name: seen.append((env.now, name)), "second")
    env.run()
    assert seen == [(5, "first"), (5, "process"), (10, "second"), (10, "process")]


def test_stepping_ends_with_the_callback_that_makes_a_result_ready() -> None:
    env, ready = Environment(), list[int]()
    for delay in (3, 1, 2):
        env.after(delay, lambda value: ready.append(value) if value > 1 else None, delay)
    env.step_until(ready)
    assert (ready, env.now) == ([2], 2)


def test_stepping_without_a_scheduled_event_is_an_error() -> None:
    env = Environment()
    env.after(1, lambda _: None)
    with pytest.raises(EmptySchedule):
        env.step_until(())
    assert env.now == 1
