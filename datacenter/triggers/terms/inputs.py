"""The values of a report from which terms are computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

from settings.profile import Profile
from wire.messages import STATES, Alert, Calibration, Inventory, Message, Quality, Status

X_MAX: Final = 2**31
"""Inputs are limited to ±X_MAX, so that no intermediate value exceeds 64 bits."""
Bounds: TypeAlias = tuple[float, float]
"""The least and the greatest possible value."""
NAMES: Final = {"STATE_INDICES": {state: index for index, state in enumerate(STATES)}}
"""Names that the source text of inputs may use, in addition to ABSENT."""


@dataclass(frozen=True)
class Input:
    """An integer that some reports contain. `word`, a word of the instrument's profile, selects it."""

    word: str
    resolution: ClassVar[int] = 1
    """The integer that represents the value 1."""
    report: ClassVar[type[Message]]
    """The kind of report that has it."""

    @staticmethod
    def words(profile: Profile) -> list[str]:
        """Return the words that the profile allows here; by default its assays."""
        return list(profile.assays)

    def text(self, profile: Profile) -> str:
        """Source text of the value in a report `r` of that kind; ABSENT if this report has none.

        It may use NAMES.
        """
        raise NotImplementedError

    def bounds(self, profile: Profile) -> Bounds:  # noqa: ARG002 - some follow from the profile
        """Return the bounds of the value."""
        return -X_MAX / self.resolution, X_MAX / self.resolution


@dataclass(frozen=True)
class Reading(Input):
    """The reading of a channel, in a status report."""

    report: ClassVar = Status

    @staticmethod
    def words(profile: Profile) -> list[str]:
        return list(profile.channels)

    def text(self, profile: Profile) -> str:  # noqa: ARG002
        return f"r.readings.get({self.word!r}, ABSENT)"

    def bounds(self, profile: Profile) -> Bounds:
        """0 to 100 for a percentage; other readings may be any integer."""
        return (0, 100) if profile.channels[self.word].unit == "%" else super().bounds(profile)


@dataclass(frozen=True)
class InstrumentState(Input):
    """The state of the instrument, in a status report, as an index of STATES."""

    word: str = ""
    report: ClassVar = Status

    def text(self, profile: Profile) -> str:  # noqa: ARG002
        return "STATE_INDICES[r.state]"

    def bounds(self, profile: Profile) -> Bounds:  # noqa: ARG002
        return 0, len(STATES) - 1


@dataclass(frozen=True)
class RemainingTests(Input):
    """The number of tests left for an assay, in an inventory report."""

    report: ClassVar = Inventory

    def text(self, profile: Profile) -> str:  # noqa: ARG002
        return f"r.tests_left.get({self.word!r}, ABSENT)"

    def bounds(self, profile: Profile) -> Bounds:  # noqa: ARG002
        return 0, X_MAX


@dataclass(frozen=True)
class ControlDeviation(Input):
    """The deviation of a control measurement from its target, in standard deviations; level 0 is any level."""

    level: int = 0
    resolution: ClassVar[int] = 1000
    report: ClassVar = Quality

    def text(self, profile: Profile) -> str:  # noqa: ARG002
        level = f" and r.level == {self.level}" if self.level else ""
        return f"r.deviation_msd if r.assay == {self.word!r}{level} else ABSENT"


@dataclass(frozen=True)
class CalibrationSlope(Input):
    """The slope of a calibration relative to the nominal one, in parts per million."""

    report: ClassVar = Calibration

    def text(self, profile: Profile) -> str:  # noqa: ARG002
        return f"r.slope_ppm if r.assay == {self.word!r} else ABSENT"


@dataclass(frozen=True)
class CalibrationOffset(Input):
    """The offset of a calibration, in parts per million."""

    report: ClassVar = Calibration

    def text(self, profile: Profile) -> str:  # noqa: ARG002
        return f"r.offset_ppm if r.assay == {self.word!r} else ABSENT"


@dataclass(frozen=True)
class Occurrence(Input):
    """1 for each alert with an error code, or of a component."""

    report: ClassVar = Alert

    @staticmethod
    def words(profile: Profile) -> list[str]:
        return [*profile.errors, *profile.components]

    def text(self, profile: Profile) -> str:
        field = "code" if self.word in profile.errors else "component"
        return f"1 if r.{field} == {self.word!r} else ABSENT"

    def bounds(self, profile: Profile) -> Bounds:  # noqa: ARG002
        return 0, 1
