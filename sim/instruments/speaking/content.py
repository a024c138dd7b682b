"""What an instrument says: reports about itself, and results of patients, which the box must drop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from wire.standards.extract import Finding


@dataclass(frozen=True, slots=True)
class Patient:
    """An invented patient."""

    family: str
    given: str
    number: str
    sample: str
    born: str
    """YYYYMMDD."""
    sex: str

    def secrets(self) -> tuple[str, ...]:
        """The texts that must not leave the box."""
        return self.family, self.given, self.number, self.sample


@dataclass(frozen=True, slots=True)
class PatientResults:
    """The results of one sample: assays and values."""

    patient: Patient
    values: tuple[tuple[str, str], ...]


Statement: TypeAlias = Finding | PatientResults
"""A `Finding` is what the box must report: its time is None if the box's own time applies."""


@dataclass(slots=True, eq=False)
class SpokenMessage:
    """A message to be sent: its parts (frames, segments) are up to the standard."""

    data: bytes
    control_id: bytes = b""
    """By which the acknowledgement names it, if the standard has that."""
    reports: list[int] = field(default_factory=list)
    """The numbers of its reports in the ledger."""
    about: str = ""
    """What it says, for messages about the lab."""
    log: bytes = b""
    """The line of the instrument's log about it."""
