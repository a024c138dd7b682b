"""The vendor's field service: its visits to one instrument, after a part has failed and for preventive maintenance.

A visit replaces the failed part, or, for maintenance, all parts that show wear. Each instrument has its own random
stream of visits, so that adding an instrument to a lab does not change the visits to another.
"""

from __future__ import annotations

import math
from random import Random
from typing import Final

import simpy

from sim.instruments.assurance import Process
from sim.instruments.instrument import SimulatedInstrument
from sim.instruments.trouble import Trouble
from sim.units import DAY_NS, HOUR_NS

ARRIVAL_MEDIAN_NS: Final = 6 * HOUR_NS
ARRIVAL_SIGMA: Final = 0.7
"""The standard deviation of the logarithm of the time to a repair: 5 % take over 3.2 times the median."""
MAINTENANCE_EVERY_NS: Final = 182 * DAY_NS


class FieldService:
    """The service of one instrument."""

    def __init__(self, env: simpy.Environment, instrument: SimulatedInstrument, random: Random) -> None:
        self._env, self._instrument, self._random = env, instrument, random
        instrument.watch(self._answer)
        env.process(self._maintain(int(random.random() * MAINTENANCE_EVERY_NS)))

    def _answer(self, trouble: Trouble) -> None:
        if trouble.remedy == "replace-part":
            self._env.process(self._visit(trouble))

    def _visit(self, trouble: Trouble) -> Process:
        delay_ns = self._random.lognormvariate(math.log(ARRIVAL_MEDIAN_NS), ARRIVAL_SIGMA)
        yield self._env.timeout(int(delay_ns))
        if self._instrument.is_active(trouble):
            self._instrument.repair(trouble.code)

    def _maintain(self, first_ns: int) -> Process:
        yield self._env.timeout(first_ns)
        while True:
            self._instrument.maintain()
            yield self._env.timeout(MAINTENANCE_EVERY_NS)
