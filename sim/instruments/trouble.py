"""What is wrong with an instrument, from the alert until somebody has put it right.

An alert is reported once, when its trouble begins. The trouble then stands until a person
(`sim.instruments.people`) has
done what it takes; if the cause is still there, it begins anew, with a new alert. So a reading that hovers at
its limit does not become a flood.

A code is a letter for the kind, a digit for the variant, and the place of its subject in the model's tuple.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from sim.instruments.model import InstrumentModel, Mishap, Reagent
from wire.vocabulary import Assay, Channel, Component, Severity

Remedy = Literal["reload", "recalibrate", "empty-waste", "replace-lamp", "readjust"]
"""What a person has to do; "readjust" covers what is done by hand and then confirmed on the screen."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that can be wrong; `code` is what the instrument's alert shows."""

    code: str
    component: Component
    severity: Severity
    remedy: Remedy
    assay: Assay | None = None
    """The assay to reload or to recalibrate."""
    stops: bool = False
    """No sample is processed while it stands."""


class Troubles:
    """Those that stand; `begun(trouble, value)` is called for each one that begins."""

    def __init__(self, begun: Callable[[Trouble, int | None], None]) -> None:
        self._begun = begun
        self._standing: dict[str, Trouble] = {}
        self.stopped = False

    def begin(self, trouble: Trouble, value: int | None = None) -> None:
        """It is so now, because of that reading; no news if it stands already."""
        if trouble.code in self._standing:
            return
        self._standing[trouble.code] = trouble
        self.stopped = self.stopped or trouble.stops
        self._begun(trouble, value)

    def end(self, *codes: str) -> None:
        """They were put right; no news about those that did not stand."""
        for code in codes:
            self._standing.pop(code, None)
        self.stopped = any(trouble.stops for trouble in self._standing.values())

    def end_all(self) -> None:
        """The instrument was restarted."""
        self._standing.clear()
        self.stopped = False

    def stands(self, code: str) -> bool:
        """Whether it was reported and not put right yet."""
        return code in self._standing


LAMP_OLD: Final = Trouble("L0100", "lamp", "warning", "replace-lamp")
WASTE_NEARLY_FULL: Final = Trouble("W0100", "waste", "warning", "empty-waste")
WASTE_FULL: Final = Trouble("W0200", "waste", "critical", "empty-waste", stops=True)


@dataclass(frozen=True, slots=True)
class AssayTroubles:
    """What can be wrong with one assay's calibration."""

    rejected: Trouble
    refused: Trouble
    due: Trouble


class Catalogue:
    """Every trouble that a model of analyzer knows."""

    def __init__(self, model: InstrumentModel) -> None:
        self.low = {r.assay: _low(place, r) for place, r in enumerate(model.reagents)}
        self.out = {r.assay: _out(place, r) for place, r in enumerate(model.reagents)}
        self.range: dict[Channel, Trouble] = {
            sensor.channel: Trouble(f"T01{place:02}", sensor.component, "error", "readjust")
            for place, sensor in enumerate(model.sensors)
        }
        self.assay = {assay: _assay(place, assay) for place, assay in enumerate(model.controls)}
        self.mishap = {mishap.code: _mishap(mishap) for mishap in model.mishaps}


def _low(place: int, reagent: Reagent) -> Trouble:
    return Trouble(f"R01{place:02}", "reagent", "warning", "reload", reagent.assay)


def _out(place: int, reagent: Reagent) -> Trouble:
    severity: Severity = "critical" if reagent.essential else "error"
    return Trouble(f"R02{place:02}", "reagent", severity, "reload", reagent.assay, stops=reagent.essential)


def _assay(place: int, assay: Assay) -> AssayTroubles:
    return AssayTroubles(
        Trouble(f"Q01{place:02}", "quality-control", "error", "recalibrate", assay),
        Trouble(f"C01{place:02}", "calibration", "error", "recalibrate", assay),
        Trouble(f"C02{place:02}", "calibration", "info", "recalibrate", assay),
    )


def _mishap(mishap: Mishap) -> Trouble:
    return Trouble(mishap.code, mishap.component, mishap.severity, "readjust", stops=mishap.stops)
