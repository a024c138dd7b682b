"""The standards that simulated instruments speak: what each can say, its writer and its speaker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Final, Protocol

from sim.instruments.speaking.astm_speaker import AstmSpeaker
from sim.instruments.speaking.astm_writer import AstmWriter
from sim.instruments.speaking.au import AuSpeaker, AuWriter
from sim.instruments.speaking.clock import InstrumentClock
from sim.instruments.speaking.codes import SpokenCodes
from sim.instruments.speaking.content import SpokenMessage, Statement
from sim.instruments.speaking.hl7_writer import Hl7Writer
from sim.instruments.speaking.mllp_speaker import MllpSpeaker
from sim.instruments.speaking.poct1_speaker import Poct1Speaker
from sim.instruments.speaking.poct1_writer import Poct1Writer
from sim.instruments.speaking.speaker import Hearing, Speaker
from wire.messages import Alert, Inventory, Quality, Report, Status


class Writer(Protocol):
    """Writes messages."""

    def write(self, statement: Statement, at_s: int) -> SpokenMessage:
        """The message that says this, at that time of the instrument in seconds since 1970."""
        ...


MakeWriter = Callable[[SpokenCodes, frozenset[str], InstrumentClock, Random], Writer]
MakeSpeaker = Callable[[frozenset[str], Hearing, Any, Callable[[], int], Random], Speaker]


@dataclass(frozen=True, slots=True)
class Standard:
    """One standard. `says` has the kinds of reports that it can express."""

    says: frozenset[type[Report]]
    writer: MakeWriter
    speaker: MakeSpeaker
    states: Mapping[str, str] = field(default_factory=dict)
    """What the states of the model become."""
    has_times: bool = True

    def spoken(self, kind: type[Report], fields: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The fields of a report as the box can know them; None if the standard cannot express it."""
        if kind not in self.says:
            return None
        if kind is Status:
            return self.states[fields[0]], 0, {}
        if kind is Alert:
            return fields[:3]
        return (dict(fields[0]),) if kind is Inventory else fields


def _mllp(
    dialect: frozenset[str], hearing: Hearing, writer: Hl7Writer, now_s: Callable[[], int], random: Random
) -> Speaker:
    def answer(control_id: bytes, event: str) -> bytes:
        return writer.answer(control_id, event, now_s())

    return MllpSpeaker(dialect, hearing, answer, random)


def _astm(
    dialect: frozenset[str], hearing: Hearing, _writer: Writer, _now: object, random: Random, *, serial: bool
) -> Speaker:
    return AstmSpeaker(dialect, hearing, random, serial=serial)


def _au(dialect: frozenset[str], hearing: Hearing, _writer: Writer, _now: object, random: Random) -> Speaker:
    return AuSpeaker(dialect, hearing, random)


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
_ASTM_SAYS: Final[frozenset[type[Report]]] = frozenset((Quality, Alert))
_STANDARDS: Final = {
    "hl7": Standard(frozenset((Status, Inventory, Quality, Alert)), Hl7Writer, _mllp, _HL7_STATES),
    "astm": Standard(_ASTM_SAYS, AstmWriter, partial(_astm, serial=False)),
    "astm-serial": Standard(_ASTM_SAYS, AstmWriter, partial(_astm, serial=True)),
    "poct1a": Standard(frozenset((Status, Quality, Alert)), Poct1Writer, Poct1Speaker, _POCT_STATES),
    "au": Standard(frozenset((Quality,)), AuWriter, _au, has_times=False),
}


def standard_of(speaks: str) -> Standard:
    """The standard of that name in profiles and lab files."""
    return _STANDARDS[speaks]
