"""The troubles of an instrument, from the alert until an operator has resolved them.

An alert is reported once, when its trouble begins. The trouble stays active until an operator
(`sim.instruments.operator`) has resolved it; if the cause remains, it begins again with a new alert. A reading that
hovers at its limit therefore does not flood the data center with alerts.

A code consists of a letter for the kind, a variant, and the index of its subject in the model's tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from settings.profile import Severity
from sim.instruments.model import InstrumentModel, Mishap, Reagent, Wear
from wire.messages import Assay, Channel, Component

Remedy = Literal["reload", "recalibrate", "empty-waste", "replace-lamp", "readjust", "replace-part"]
"""The action that resolves a trouble; "readjust" is any manual action that is confirmed on the screen.

"replace-part" takes the vendor's service; the others are done by an operator.
"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A kind of trouble; `code` is the code of its alert."""

    code: str
    component: Component
    severity: Severity
    remedy: Remedy
    assay: Assay | None = None
    """The assay to reload or recalibrate."""
    stops: bool = False
    """Whether no sample is processed while it is active."""


class Troubles:
    """The active troubles of an instrument; `begun(trouble, value)` is called when one begins."""

    def __init__(self, begun: Callable[[Trouble, int | None], None]) -> None:
        self._begun = begun
        self._active: dict[str, Trouble] = {}
        self.stopped = False

    def begin(self, trouble: Trouble, value: int | None = None) -> None:
        """Begin a trouble, caused by the reading `value`; does nothing if it is active already."""
        if trouble.code in self._active:
            return
        self._active[trouble.code] = trouble
        self.stopped = self.stopped or trouble.stops
        self._begun(trouble, value)

    def end(self, *codes: str) -> None:
        """End the troubles with these codes; codes of inactive ones are ignored."""
        for code in codes:
            self._active.pop(code, None)
        self.stopped = any(trouble.stops for trouble in self._active.values())

    def end_all(self) -> None:
        """End all troubles, at a restart of the instrument."""
        self._active.clear()
        self.stopped = False

    def is_active(self, code: str) -> bool:
        """Return whether the trouble with this code was reported and is not resolved yet."""
        return code in self._active


LAMP_OLD: Final = Trouble("L0100", "lamp", "warning", "replace-lamp")
WASTE_NEARLY_FULL: Final = Trouble("W0100", "waste", "warning", "empty-waste")
WASTE_FULL: Final = Trouble("W0200", "waste", "critical", "empty-waste", stops=True)


@dataclass(frozen=True, slots=True)
class AssayTroubles:
    """The troubles of one assay: rejected control, refused calibration, calibration due."""

    rejected: Trouble
    refused: Trouble
    due: Trouble


class Catalogue:
    """All troubles that a model of analyzer can have, by their subject."""

    def __init__(self, model: InstrumentModel) -> None:
        self.low = {r.assay: _low(index, r) for index, r in enumerate(model.reagents)}
        self.out = {r.assay: _out(index, r) for index, r in enumerate(model.reagents)}
        self.range: dict[Channel, Trouble] = {
            sensor.channel: Trouble(f"T01{index:02}", sensor.component, "error", "readjust")
            for index, sensor in enumerate(model.sensors)
        }
        self.assay = {assay: _assay(index, assay) for index, assay in enumerate(model.controls)}
        self.mishap = {mishap.code: _mishap(mishap) for mishap in model.mishaps}
        self.failed = [_failed(index, wear) for index, wear in enumerate(model.wear)]

    def __iter__(self) -> Iterator[Trouble]:
        """Yield all troubles, those of lamp and waste included, even if the model lacks these parts."""
        for assay in self.assay.values():
            yield from (assay.due, assay.refused, assay.rejected)
        yield from (LAMP_OLD, WASTE_NEARLY_FULL, WASTE_FULL)
        for by_subject in (self.out, self.low, self.mishap, self.range):
            yield from by_subject.values()
        yield from self.failed


def _low(index: int, reagent: Reagent) -> Trouble:
    return Trouble(f"R01{index:02}", "reagent", "warning", "reload", reagent.assay)


def _out(index: int, reagent: Reagent) -> Trouble:
    severity: Severity = "critical" if reagent.essential else "error"
    return Trouble(f"R02{index:02}", "reagent", severity, "reload", reagent.assay, stops=reagent.essential)


def _assay(index: int, assay: Assay) -> AssayTroubles:
    return AssayTroubles(
        Trouble(f"Q01{index:02}", "quality-control", "error", "recalibrate", assay),
        Trouble(f"C01{index:02}", "calibration", "error", "recalibrate", assay),
        Trouble(f"C02{index:02}", "calibration", "info", "recalibrate", assay),
    )


def _mishap(mishap: Mishap) -> Trouble:
    return Trouble(mishap.code, mishap.component, mishap.severity, "readjust", stops=mishap.stops)


def _failed(index: int, wear: Wear) -> Trouble:
    return Trouble(f"D01{index:02}", wear.component, "critical", "replace-part", stops=True)
