"""The reports of one instrument over months or years, with the ground truth about its parts, without a network.

    history = History("chemistry-analyzer", "CHEM-0001", seed=7)
    for report in history.until(365 * DAY_NS):
        ...
    history.wear()

The instrument, its operator and the vendor's service are the same as in a lab. Reports have the numbers and times
that the instrument's agent would give them; all belong to one run. The result depends only on model, serial number,
seed and interval, and not on how often `until` is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sim.engine.clock import Environment
from sim.engine.streams import stream
from sim.instruments import load_model
from sim.instruments.field_service import FieldService
from sim.instruments.instrument import SimulatedInstrument
from sim.instruments.operator import Operator
from sim.instruments.physics.part_wear import PartWear
from sim.units import DAY_NS, MILLISECOND_NS, MINUTE_NS
from wire.messages import InstrumentReport, Report

CHUNK_NS: Final = DAY_NS
"""The period whose reports are generated at once; it bounds the memory."""


class History:
    """The history of one instrument; times are nanoseconds since its start, which is a midnight.

    `start_ms` is that midnight in milliseconds since 1970, for the times in the reports. Raises: ModelError.
    """

    def __init__(
        self, model: str, serial: str, seed: int, *, report_every_ns: int = MINUTE_NS, start_ms: int = 0
    ) -> None:
        self._env = Environment()
        self._start_ms = start_ms
        self._reports: list[InstrumentReport] = []
        self._count = 0
        self.instrument: Final = SimulatedInstrument(
            load_model(model),
            self._env,
            serial,
            stream(seed, f"history/{serial}/model"),
            self._emit,
            report_every_ns,
            skip=self._env.skip,
        )
        Operator(self._env, self.instrument, stream(seed, f"history/{serial}/bench"))
        FieldService(self._env, self.instrument, stream(seed, f"history/{serial}/service"))

    def until(self, end_ns: int) -> Iterator[InstrumentReport]:
        """Yield the next reports, up to `end_ns`, in the order in which they were made."""
        env = self._env
        while env.now < end_ns:
            env.run(until=min(end_ns, env.now - env.now % CHUNK_NS + CHUNK_NS))
            reports, self._reports = self._reports, []
            yield from reports

    def wear(self) -> tuple[PartWear, ...]:
        """Return the ground truth about all degradations of parts until now."""
        return self.instrument.wear_truth()

    def _emit(self, kind: type[Report], /, *fields: object) -> None:
        self._count = number = self._count + 1
        at_ms = self._start_ms + self._env.now // MILLISECOND_NS
        self._reports.append(kind(number, at_ms, *fields))  # type: ignore[arg-type]
