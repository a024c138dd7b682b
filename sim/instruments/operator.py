"""The operators of a laboratory: their actions at one instrument, and the delays before them.

One process for each instrument takes the most urgent job, walks to the instrument, does the job, and continues with
the next. Jobs arise from alerts and at the start of each shift, which has quality controls and a check of reagents,
waste and lamp. At night fewer operators look after more instruments, so it takes longer until one comes.

Each instrument has its own operator and random stream: adding an instrument to a lab does not change what happens at
another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

import simpy

from settings.profile import Severity
from sim.instruments.assurance import Process
from sim.instruments.instrument import SimulatedInstrument
from sim.instruments.trouble import Remedy, Trouble
from sim.units import DAY_NS, HOUR_NS, MINUTE_NS
from wire.messages import Assay

TOP_UP_BELOW: Final = 0.3
"""Fill level below which reagents are reloaded at the start of a shift."""
EMPTY_WASTE_FROM_PCT: Final = 60
REPLACE_LAMP_FROM: Final = 0.95
"""The used share of the lamp's life at which it is replaced at the start of a shift."""
WALK_SIGMA: Final = 0.6
"""The standard deviation of the logarithm of the walking time: 5 % of walks take over 2.7 times the median."""

_URGENCY: Final[dict[Severity, int]] = {"critical": 0, "error": 1, "warning": 2, "info": 3}
_ROUTINE: Final = 4


@dataclass(frozen=True, slots=True)
class WorkShift:
    """The hour at which a shift starts, and the median time until an operator is at the instrument."""

    begins_hour: int
    walk_median_ns: int


SHIFTS: Final = (
    WorkShift(6, 4 * MINUTE_NS),
    WorkShift(14, 6 * MINUTE_NS),
    WorkShift(22, 12 * MINUTE_NS),
)

_HANDS_ON_NS: Final[dict[Remedy, int]] = {
    "reload": 2 * MINUTE_NS,
    "recalibrate": 4 * MINUTE_NS,
    "empty-waste": 3 * MINUTE_NS,
    "replace-lamp": 10 * MINUTE_NS,
    "readjust": 5 * MINUTE_NS,
}


@dataclass(frozen=True, slots=True, order=True)
class _Job:
    urgency: int
    number: int
    """Jobs of equal urgency are done in the order of their numbers."""
    duration_ns: int
    action: Callable[[], None]
    needed: Callable[[], bool]


class Operator:
    """The operator who looks after one instrument, around the clock in three shifts."""

    def __init__(
        self,
        env: simpy.Environment,
        instrument: SimulatedInstrument,
        random: Random,
        start_of_day_ns: int = 0,
    ) -> None:
        self._env = env
        self._instrument = instrument
        self._random = random
        self._start_of_day_ns = start_of_day_ns
        self._jobs = simpy.PriorityStore(env)
        self._job_count = 0
        instrument.watch(self._add_job)
        env.process(self._work_forever())
        env.process(self._begin_shifts())

    def _add_job(self, trouble: Trouble) -> None:
        if trouble.remedy not in _HANDS_ON_NS:
            return  # for the vendor's service
        needed = partial(self._instrument.is_active, trouble)
        action = partial(self._apply, trouble)
        self._add(_URGENCY[trouble.severity], _HANDS_ON_NS[trouble.remedy], action, needed)

    def _apply(self, trouble: Trouble) -> None:
        instrument = self._instrument
        match trouble.remedy, trouble.assay:
            case "reload", str(assay):
                instrument.reload(assay)
            case "recalibrate", str(assay):
                instrument.recalibrate(assay)
            case "empty-waste", _:
                instrument.empty_waste()
            case "replace-lamp", _:
                instrument.replace_lamp()
            case _:
                instrument.clear(trouble.code)

    def _begin_shifts(self) -> Process:
        while True:
            yield self._env.timeout(self._until_next_shift_ns())
            self._add(_ROUTINE, 2 * MINUTE_NS, self._instrument.control_quality)
            self._top_up()

    def _top_up(self) -> None:
        instrument = self._instrument
        for reagent in instrument.model.reagents:
            if instrument.share_left(reagent.assay) < TOP_UP_BELOW:
                reload = partial(instrument.reload, reagent.assay)
                self._add(_ROUTINE, _HANDS_ON_NS["reload"], reload, partial(self._runs_low, reagent.assay))
        if instrument.waste_pct() >= EMPTY_WASTE_FROM_PCT:
            self._add(_ROUTINE, _HANDS_ON_NS["empty-waste"], instrument.empty_waste)
        if instrument.lamp_share_used() >= REPLACE_LAMP_FROM:
            self._add(_ROUTINE, _HANDS_ON_NS["replace-lamp"], instrument.replace_lamp)

    def _runs_low(self, assay: Assay) -> bool:
        return self._instrument.share_left(assay) < TOP_UP_BELOW

    def _add(
        self,
        urgency: int,
        duration_ns: int,
        action: Callable[[], None],
        needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._job_count += 1
        self._jobs.put(_Job(urgency, self._job_count, duration_ns, action, needed))

    def _work_forever(self) -> Process:
        finished_ns = -1
        while True:
            job = yield self._jobs.get()
            assert isinstance(job, _Job)
            if self._env.now != finished_ns:  # otherwise the operator is still at the instrument
                yield self._env.timeout(self._walk_ns())
            if job.needed():
                yield self._env.timeout(job.duration_ns)
                job.action()
            finished_ns = int(self._env.now)

    def _time_of_day_ns(self) -> int:
        return int(self._env.now - self._start_of_day_ns) % DAY_NS

    def _walk_ns(self) -> int:
        hour = self._time_of_day_ns() // HOUR_NS
        begun = [shift for shift in SHIFTS if shift.begins_hour <= hour]
        shift = begun[-1] if begun else SHIFTS[-1]
        return int(self._random.lognormvariate(math.log(shift.walk_median_ns), WALK_SIGMA))

    def _until_next_shift_ns(self) -> int:
        time_ns = self._time_of_day_ns()
        return min((s.begins_hour * HOUR_NS - time_ns - 1) % DAY_NS + 1 for s in SHIFTS)
