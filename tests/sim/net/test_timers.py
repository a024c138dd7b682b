"""Timers that share events: each expires at its deadline, whatever the others do."""

from __future__ import annotations

from sim.engine.clock import Environment
from sim.net.timers import LazyTimer, LazyTimers


class Watched:
    """Timers of one environment, and when each expired."""

    def __init__(self, count: int) -> None:
        self.env = Environment()
        self.shared = timers = LazyTimers(self.env)
        self.expired: list[tuple[int, int]] = []
        self.timers = [LazyTimer(timers, lambda n=n: self._note(n)) for n in range(count)]  # type: ignore[misc]

    def _note(self, number: int) -> None:
        assert self.timers[number].deadline == 0
        self.expired.append((self.env.now, number))

    def run(self) -> list[tuple[int, int]]:
        self.env.run()
        return self.expired


def test_each_expires_once_at_its_deadline() -> None:
    watched = Watched(3)
    for timer, deadline in zip(watched.timers, (30, 10, 20), strict=True):
        timer.set(deadline)
    assert watched.run() == [(10, 1), (20, 2), (30, 0)]


def test_timers_of_one_deadline_expire_in_the_order_in_which_they_were_set() -> None:
    watched = Watched(3)
    for number in (2, 0, 1):
        watched.timers[number].set(10)
    assert watched.run() == [(10, 2), (10, 0), (10, 1)]


def test_a_deadline_moves_to_later_and_to_earlier_and_is_cleared() -> None:
    watched = Watched(3)
    later, earlier, cleared = watched.timers
    for timer in watched.timers:
        timer.set(50)
    watched.env.after(5, lambda _: (later.set(70), earlier.set(6)))
    watched.env.after(7, lambda _: setattr(cleared, "deadline", 0))
    assert watched.run() == [(6, 1), (70, 0)]


def test_one_that_expires_may_clear_or_move_those_that_are_due_with_it() -> None:
    watched = Watched(3)
    first, second, third = watched.timers

    def interfere() -> None:
        second.deadline = 0
        third.set(15)

    first.expired = interfere
    for timer in watched.timers:
        timer.set(10)
    assert watched.run() == [(15, 2)]


def test_a_timer_that_expired_or_was_cleared_can_be_set_again() -> None:
    watched = Watched(2)
    again, cleared = watched.timers
    again.set(10)
    cleared.set(10)
    cleared.deadline = 0
    watched.env.after(20, lambda _: (again.set(30), cleared.set(40)))
    assert watched.run() == [(10, 0), (30, 0), (40, 1)]


def test_timers_that_are_set_and_cleared_together_take_one_event() -> None:
    watched = Watched(8)
    for timer in watched.timers:
        timer.set(10)
        timer.deadline = 0
    steps = 0
    while watched.env.peek() != float("inf"):
        watched.env.step()
        steps += 1
    assert (steps, watched.expired) == (1, [])


def test_a_new_timer_has_no_deadline() -> None:
    assert Watched(1).timers[0].deadline == 0


def test_a_timer_can_expire_in_the_first_nanosecond() -> None:
    watched = Watched(1)
    watched.timers[0].set(1)
    assert watched.run() == [(1, 0)]


def test_a_timer_that_is_set_again_and_again_is_listed_once() -> None:
    watched = Watched(1)
    for deadline in range(10, 20):
        watched.timers[0].set(deadline)
    assert len(watched.shared.listed) == 1
    assert watched.run() == [(19, 0)]
