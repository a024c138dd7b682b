"""An instrument that speaks its own standard: what it can say of the physical model's reports, and to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from settings.adapted import AdaptedPort
from settings.profile import load_profile
from sim.engine.streams import branch
from sim.instruments import load_model
from sim.instruments.speaking.clock import InstrumentClock
from sim.instruments.speaking.codes import SpokenCodes
from sim.instruments.speaking.content import Patient, PatientResults, SpokenMessage
from sim.instruments.speaking.patients import Patients
from sim.instruments.speaking.speaker import Hearing, Speaker
from sim.instruments.speaking.standards import standard_of
from wire.messages import Alert, Report
from wire.standards.extract import Finding


@dataclass(frozen=True, slots=True)
class Said:
    """A message, and the report that the box must make of it; None for results of a patient."""

    message: SpokenMessage
    finding: Finding | None


class SpeakingInstrument:
    """The reports of an instrument in its standard and dialect. `wall_ns` is the clock of its computer."""

    def __init__(
        self,
        model: str,
        dialect: frozenset[str],
        wall_ns: Callable[[], int],
        hearing: Hearing,
        random: Random,
    ) -> None:
        self._profile, self._dialect = load_profile(model), dialect
        self._standard = standard_of(self._profile.speaks)
        self._codes = SpokenCodes(load_model(model), self._profile, dialect)
        self._clock = InstrumentClock(wall_ns, dialect)
        self._patients = Patients(branch(random), chinese="gb-18030" in dialect)
        self._random = branch(random)
        self._writer = self._standard.writer(self._codes, dialect, self._clock, branch(random))
        self.speaker: Speaker = self._standard.speaker(
            dialect, hearing, self._writer, self._clock.now_s, branch(random)
        )
        self.patients: list[Patient] = []
        """The patients whose results it has sent."""
        self._last: set[tuple[type[Report], str]] = set()
        self._last_s = -1

    def say(self, kind: type[Report], fields: tuple[Any, ...]) -> Said | None:
        """The message for a report of the physical model; None if the standard has no words for it.

        Nothing is said twice in one second: times have seconds, and the same again would be the same message.
        """
        spoken = self._standard.spoken(kind, fields)
        if spoken is None or (kind is Alert and "bare-header" in self._dialect):
            return None
        at_s = self._clock.now_s()
        if at_s != self._last_s:
            self._last_s, self._last = at_s, set()
        if (kind, repr(spoken)) in self._last:
            return None
        self._last.add((kind, repr(spoken)))
        has_time = self._clock.is_right and self._standard.has_times
        finding = Finding(kind, spoken, at_s * 1000 if has_time else None)  # type: ignore[arg-type]
        return Said(self._writer.write(finding, at_s), finding)

    def measure_patient(self) -> Said:
        """The message with the results of another patient."""
        patient = self._patients.next()
        self.patients.append(patient)
        assays = self._codes.assays
        values = tuple((assay, f"{self._random.uniform(1, 99):.2f}") for assay in assays)
        return Said(self._writer.write(PatientResults(patient, values), self._clock.now_s()), None)


def site_settings(model: str, dialect: frozenset[str], serial_port: int | None) -> AdaptedPort:
    """The settings that the site enters on the box for such an instrument."""
    return SpokenCodes(load_model(model), load_profile(model), dialect).site(serial_port)
