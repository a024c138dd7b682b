"""What a report can contain that a term is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from settings.profile import Profile
from wire.messages import State

STATES: Final[tuple[State, ...]] = ("idle", "running", "calibrating", "maintenance", "stopped")
"""The states of an instrument; `InstrumentState` has their index as value."""


@dataclass(frozen=True)
class Input:
    """An integer that some reports contain. `word` selects it, and is one of the instrument's profile."""

    word: str
    resolution: ClassVar[int] = 1
    """The integer that stands for the value 1."""

    @staticmethod
    def words(profile: Profile) -> list[str]:
        """The words that the profile allows here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Reading(Input):
    """The reading of a channel, in a status report."""

    @staticmethod
    def words(profile: Profile) -> list[str]:
        return list(profile.channels)


@dataclass(frozen=True)
class InstrumentState(Input):
    """The state of the instrument, in a status report, as an index of STATES."""

    @staticmethod
    def words(profile: Profile) -> list[str]:  # noqa: ARG004
        return [""]


@dataclass(frozen=True)
class RemainingTests(Input):
    """The tests left of an assay, in an inventory report."""

    @staticmethod
    def words(profile: Profile) -> list[str]:
        return list(profile.assays)


@dataclass(frozen=True)
class Deviation(Input):
    """The deviation of a control measurement from its target, in standard deviations; level 0 is any level."""

    level: int = 0
    resolution: ClassVar[int] = 1000

    @staticmethod
    def words(profile: Profile) -> list[str]:
        return list(profile.assays)


@dataclass(frozen=True)
class CalibrationSlope(Input):
    """The slope of a calibration against the nominal one, in parts per million."""

    @staticmethod
    def words(profile: Profile) -> list[str]:
        return list(profile.assays)


@dataclass(frozen=True)
class CalibrationOffset(CalibrationSlope):
    """The offset of a calibration, in parts per million."""


@dataclass(frozen=True)
class Occurrence(Input):
    """1 for each alert with an error code, or of a component."""

    @staticmethod
    def words(profile: Profile) -> list[str]:
        return [*profile.errors, *profile.components]
