"""Timers that share events expire at their own deadlines."""

from __future__ import annotations

from sim.engine.clock import Environment
from sim.net.timers import LazyTimer, LazyTimers


class Watched:
    """Timers of one environment, and a record of (time in ns, number of the timer) of each expiry."""

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


def test_each_timer_expires_once_at_its_deadline() -> None:
    watched = Watched(3)
    for timer, deadline in zip(watched.timers, (30, 10, 20), strict=True):
        timer.set(deadline)
    assert watched.run() == [(10, 1), (20, 2), (30, 0)]


def test_timers_with_the_same_deadline_expire_in_the_order_they_were_set() -> None:
    watched = Watched(3)
    for number in (2, 0, 1):
        watched.timers[number].set(10)
    assert watched.run() == [(10, 2), (10, 0), (10, 1)]


def test_a_deadline_can_be_moved_later_and_earlier_and_be_cleared() -> None:
    watched = Watched(3)
    later, earlier, cleared = watched.timers
    for timer in watched.timers:
        timer.set(50)
    watched.env.after(5, lambda _: (later.set(70), earlier.set(6)))
    watched.env.after(7, lambda _: setattr(cleared, "deadline", 0))
    assert watched.run() == [(6, 1), (70, 0)]


def test_an_expiring_timer_can_clear_and_move_others_with_the_same_deadline() -> None:
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


def test_timers_set_and_cleared_together_need_one_event() -> None:
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


def test_a_timer_that_is_set_repeatedly_is_listed_once() -> None:
    watched = Watched(1)
    for deadline in range(10, 20):
        watched.timers[0].set(deadline)
    assert len(watched.shared.listed) == 1
    assert watched.run() == [(19, 0)]
