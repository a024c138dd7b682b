"""The arrival of samples at an analyzer, and their processing.

Arrivals are a Poisson process whose rate depends on the hour of day: a large peak after the morning blood collection,
a long afternoon, and at night the samples of the emergency department. The process is drawn by a change of the time
scale: measured in *expected arrivals* instead of hours, the times between arrivals are exponential with mean 1. The
number of arrivals up to a time therefore does not depend on how often it is computed, and a sample needs no event.

The analyzer has a budget of cycles, to which time adds and from which each sample's panel takes; an idle analyzer
does not accumulate cycles.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import log
from random import Random
from typing import Final

from sim.engine.streams import branch
from sim.instruments.model import InstrumentModel
from sim.instruments.physics.shelf import ReagentShelf
from sim.units import DAY_NS, HOUR_NS, MINUTE_NS

SAMPLES_BY_HOUR: Final = (
    *(1.4, 1.2, 1.1, 1.2, 2.0, 4.5, 8.0, 10.5),  # 00–07
    *(11.5, 10.5, 9.0, 7.5, 6.0, 5.5, 4.5, 3.5),  # 08–15
    *(2.7, 2.2, 1.9, 1.7, 1.5, 1.4, 1.4, 1.3),  # 16–23
)
"""The relative number of samples that arrive in each hour of the day."""
STAYS_RUNNING_NS: Final = 15 * MINUTE_NS
"""The time from a sample's pipetting to its last result, in which the analyzer does not report itself idle."""

_TOTAL: Final = sum(SAMPLES_BY_HOUR)
_SHARE: Final = tuple(weight / _TOTAL for weight in SAMPLES_BY_HOUR)
_BEFORE: Final = (0.0, *accumulate(_SHARE))


class Arrivals:
    """The arrivals of samples at one analyzer."""

    def __init__(self, random: Random, samples_per_day: int, start_of_day_ns: int, now_ns: int) -> None:
        self._random = random.random
        self._samples_per_day = samples_per_day
        self._start_of_day_ns = start_of_day_ns
        self._expected = _days_expected(now_ns - start_of_day_ns) * samples_per_day
        self.next_ns = 0
        """The time of the next arrival."""
        self._draw()

    def until(self, now_ns: int) -> int:
        """Return the number of samples that arrived since the last call."""
        arrived = 0
        while self.next_ns <= now_ns:
            arrived += 1
            self._draw()
        return arrived

    def expected_between(self, begin_ns: int, end_ns: int) -> float:
        """Return the expected number of samples that arrive in that time."""
        begin, end = (_days_expected(at_ns - self._start_of_day_ns) for at_ns in (begin_ns, end_ns))
        return self._samples_per_day * (end - begin)

    def _draw(self) -> None:
        self._expected -= log(1.0 - self._random())  # exponential with mean 1
        days, share = divmod(self._expected / self._samples_per_day, 1.0)
        hour = bisect_right(_BEFORE, share, 1, 24) - 1
        hours = hour + (share - _BEFORE[hour]) / _SHARE[hour]
        self.next_ns = self._start_of_day_ns + int(days) * DAY_NS + int(hours * HOUR_NS)


def _days_expected(time_ns: int) -> float:
    """Return the share of a day's samples that is expected up to a time since a midnight, plus the number of days."""
    days, rest_ns = divmod(time_ns, DAY_NS)
    hour, part_ns = divmod(rest_ns, HOUR_NS)
    return days + _BEFORE[hour] + _SHARE[hour] * part_ns / HOUR_NS


class Workload:
    """The queue of an analyzer, and its counts of samples and cycles since power-on."""

    def __init__(
        self, model: InstrumentModel, random: Random, shelf: ReagentShelf, start_of_day_ns: int, now_ns: int
    ) -> None:
        self._model = model
        self._arrivals = Arrivals(branch(random), model.samples_per_day, start_of_day_ns, now_ns)
        self._draw_panel = branch(random).random
        self._weights = tuple(accumulate(panel.weight for panel in model.panels))
        self._shelf = shelf
        self._credit = 0.0
        self._last_ns = now_ns
        self._last_sample_ns = now_ns - DAY_NS
        self.queue = 0
        self.samples = 0
        self.cycles = 0

    def advance(self, now_ns: int, *, may_work: bool) -> None:
        """Update the state to `now_ns`; `may_work` says whether the analyzer could work since the last call."""
        if self._arrivals.next_ns <= now_ns:
            self.queue = min(self.queue + self._arrivals.until(now_ns), self._model.queue_max)
        if may_work and self.queue:
            self._credit += (now_ns - self._last_ns) * self._model.cycles_per_hour / HOUR_NS
            self._work()
            self._last_sample_ns = now_ns
        if not self.queue and self._credit > 0.0:
            self._credit = 0.0
        self._last_ns = now_ns

    def running(self, now_ns: int) -> bool:
        """Return whether samples are waiting or being processed."""
        return self.queue > 0 or now_ns - self._last_sample_ns < STAYS_RUNNING_NS

    def restart(self) -> None:
        """Reset the counts, after a power cut."""
        self.samples = self.cycles = 0
        self._credit = 0.0

    def _work(self) -> None:
        weights = self._weights
        while self.queue and self._credit > 0:
            index = bisect_right(weights, self._draw_panel() * weights[-1], 0, len(weights) - 1)
            panel = self._model.panels[index]
            self._credit -= panel.cycles
            self.queue -= 1
            self.samples += 1
            self.cycles += panel.cycles
            self._shelf.take(panel.uses)
