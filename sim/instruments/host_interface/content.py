"""The content of messages: reports about the instrument, and patient results, which the box must drop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from wire.standards.extract import Finding


@dataclass(frozen=True, slots=True)
class Patient:
    """A fictitious patient."""

    family: str
    given: str
    number: str
    sample: str
    born: str
    """YYYYMMDD."""
    sex: str

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must not leave the box."""
        return self.family, self.given, self.number, self.sample


@dataclass(frozen=True, slots=True)
class PatientResults:
    """The results of one sample: assays and values."""

    patient: Patient
    values: tuple[tuple[str, str], ...]


MessageContent: TypeAlias = Finding | PatientResults
"""A `Finding` is a report that the box must extract; its time is None if the box inserts its own."""


@dataclass(slots=True, eq=False)
class HostMessage:
    """An encoded message; the transmitter divides it into frames if the standard has frames."""

    data: bytes
    control_id: bytes = b""
    """The ID by which an acknowledgement refers to the message, if the standard has one."""
    reports: list[int] = field(default_factory=list)
    """The numbers of its reports in the ledger."""
    kind: str = ""
    """The kind of content, for messages to the user of the lab."""
    log: bytes = b""
    """The line of the instrument's log about the message."""
