"""The standards that simulated instruments speak: the kinds of reports, writer and transmitter of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, Protocol

from sim.instruments.host_interface.au import AuTransmitter, AuWriter
from sim.instruments.host_interface.clock import InstrumentClock
from sim.instruments.host_interface.codes import HostCodes
from sim.instruments.host_interface.content import HostMessage, MessageContent
from sim.instruments.host_interface.transmitters.astm import AstmTransmitter
from sim.instruments.host_interface.transmitters.mllp import MllpTransmitter
from sim.instruments.host_interface.transmitters.poct1 import Poct1Transmitter
from sim.instruments.host_interface.transmitters.transmitter import Transmitter, TransmitterEvents
from sim.instruments.host_interface.writers.astm import AstmWriter
from sim.instruments.host_interface.writers.hl7 import Hl7Writer
from sim.instruments.host_interface.writers.poct1 import Poct1Writer
from wire.messages import Alert, Inventory, Quality, Report, Status


class MessageWriter(Protocol):
    """Writes messages."""

    def write(self, content: MessageContent, at_s: int) -> HostMessage:
        """Return the message with this content; `at_s` is the instrument's time in seconds since 1970."""
        ...


MakeWriter = Callable[[HostCodes, frozenset[str], InstrumentClock, Random], MessageWriter]
MakeTransmitter = Callable[[frozenset[str], TransmitterEvents, Any, Callable[[], int], Random], Transmitter]


@dataclass(frozen=True, slots=True)
class Standard:
    """One standard. `kinds` contains the kinds of reports that it can express."""

    kinds: frozenset[type[Report]]
    writer: MakeWriter
    transmitter: MakeTransmitter
    states: Mapping[str, str] = field(default_factory=dict)
    """The state that is sent for each state of the model."""
    has_times: bool = True

    def fields_sent(self, kind: type[Report], fields: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the fields of a report that the box can receive; None if the standard cannot express the report."""
        if kind not in self.kinds:
            return None
        if kind is Status:
            return self.states[fields[0]], 0, {}
        if kind is Alert:
            return fields[:3]
        return (dict(fields[0]),) if kind is Inventory else fields


def _mllp(
    dialect: frozenset[str],
    events: TransmitterEvents,
    writer: Hl7Writer,
    now_s: Callable[[], int],
    random: Random,
) -> Transmitter:
    def answer(control_id: bytes, event: str) -> bytes:
        return writer.answer(control_id, event, now_s())

    return MllpTransmitter(dialect, events, answer, random)


def _astm(
    dialect: frozenset[str],
    events: TransmitterEvents,
    _writer: MessageWriter,
    _now: object,
    random: Random,
    *,
    serial: bool,
) -> Transmitter:
    return AstmTransmitter(dialect, events, random, serial=serial)


def _au(
    dialect: frozenset[str], events: TransmitterEvents, _writer: MessageWriter, _now: object, random: Random
) -> Transmitter:
    return AuTransmitter(dialect, events, random)


_HL7_STATES: Final = {
    "idle": "idle",
    "running": "running",
    "calibrating": "maintenance",
    "maintenance": "maintenance",
    "stopped": "stopped",
}
_POCT_STATES: Final = {
    "idle": "idle",
    "running": "running",
    "calibrating": "running",
    "maintenance": "stopped",
    "stopped": "stopped",
}
_ASTM_KINDS: Final[frozenset[type[Report]]] = frozenset((Quality, Alert))
_STANDARDS: Final = {
    "hl7": Standard(frozenset((Status, Inventory, Quality, Alert)), Hl7Writer, _mllp, _HL7_STATES),
    "astm": Standard(_ASTM_KINDS, AstmWriter, partial(_astm, serial=False)),
    "astm-serial": Standard(_ASTM_KINDS, AstmWriter, partial(_astm, serial=True)),
    "poct1a": Standard(frozenset((Status, Quality, Alert)), Poct1Writer, Poct1Transmitter, _POCT_STATES),
    "au": Standard(frozenset((Quality,)), AuWriter, _au, has_times=False),
}


def standard_of(speaks: str) -> Standard:
    """Return the standard of that name in profiles and lab files."""
    return _STANDARDS[speaks]
