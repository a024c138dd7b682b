"""The host interface of an instrument: encodes reports of the physical model and patient results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from settings.adapted import AdaptedPort
from settings.profile import load_profile
from sim.engine.streams import branch
from sim.instruments import load_model
from sim.instruments.host_interface.clock import InstrumentClock
from sim.instruments.host_interface.codes import HostCodes
from sim.instruments.host_interface.content import HostMessage, Patient, PatientResults
from sim.instruments.host_interface.patients import Patients
from sim.instruments.host_interface.standards import standard_of
from sim.instruments.host_interface.transmitters.transmitter import Transmitter, TransmitterEvents
from wire.messages import Alert, Report
from wire.standards.extract import Finding


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message, and the report that the box must extract from it; None for patient results."""

    message: HostMessage
    finding: Finding | None


class HostInterface:
    """Encodes an instrument's reports in its standard and dialect. `wall_ns` is the clock of its computer."""

    def __init__(
        self,
        model: str,
        dialect: frozenset[str],
        wall_ns: Callable[[], int],
        events: TransmitterEvents,
        random: Random,
    ) -> None:
        self._profile, self._dialect = load_profile(model), dialect
        self._standard = standard_of(self._profile.speaks)
        self._codes = HostCodes(load_model(model), self._profile, dialect)
        self._clock = InstrumentClock(wall_ns, dialect)
        self._patients = Patients(branch(random), chinese="gb-18030" in dialect)
        self._random = branch(random)
        self._writer = self._standard.writer(self._codes, dialect, self._clock, branch(random))
        self.transmitter: Transmitter = self._standard.transmitter(
            dialect, events, self._writer, self._clock.now_s, branch(random)
        )
        self.patients: list[Patient] = []
        """The patients whose results it has sent."""
        self._last: set[tuple[type[Report], str]] = set()
        self._last_s = -1

    def write(self, kind: type[Report], fields: tuple[Any, ...]) -> OutgoingMessage | None:
        """Return the message for a report of the physical model; None if the standard cannot express it.

        The same content is sent only once in a second: times have whole seconds, and the messages would be equal.
        """
        sent = self._standard.fields_sent(kind, fields)
        if sent is None or (kind is Alert and "bare-header" in self._dialect):
            return None
        at_s = self._clock.now_s()
        if at_s != self._last_s:
            self._last_s, self._last = at_s, set()
        if (kind, repr(sent)) in self._last:
            return None
        self._last.add((kind, repr(sent)))
        has_time = self._clock.is_right and self._standard.has_times
        finding = Finding(kind, sent, at_s * 1000 if has_time else None)  # type: ignore[arg-type]
        return OutgoingMessage(self._writer.write(finding, at_s), finding)

    def measure_patient(self) -> OutgoingMessage:
        """Return the message with the results of a new patient."""
        patient = self._patients.next()
        self.patients.append(patient)
        assays = self._codes.assays
        values = tuple((assay, f"{self._random.uniform(1, 99):.2f}") for assay in assays)
        return OutgoingMessage(self._writer.write(PatientResults(patient, values), self._clock.now_s()), None)


def site_settings(model: str, dialect: frozenset[str], serial_port: int | None) -> AdaptedPort:
    """Return the settings that the site enters on the box for an instrument of this model and dialect."""
    return HostCodes(load_model(model), load_profile(model), dialect).site(serial_port)
