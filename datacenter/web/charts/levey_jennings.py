"""Levey-Jennings charts of quality control as SVG.

A chart has the deviations of the controls of one assay and level, in standard deviations (SD), over time. A control
beyond 3 SD (rule 1-3s), and the second of two beyond 2 SD on one side (rule 2-2s), are marked as rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from datacenter.fleet.reports import MeasuredControls
from settings.profile import Profile

WIDTH: Final = 400
HEIGHT: Final = 120
LEFT: Final = 28
RIGHT: Final = 8
SD_SHOWN: Final = 4
"""The largest deviation in a chart, in SD; greater ones are drawn at it."""


@dataclass(frozen=True)
class ControlPoint:
    """A control on a chart: its position, its deviation, and the rule that rejects it; empty if none does."""

    x: float
    y: float
    at_ms: int
    sd: float
    rule: str


@dataclass(frozen=True)
class ControlChart:
    """The chart of one assay and level."""

    title: str
    points: tuple[ControlPoint, ...]
    lines: tuple[tuple[int, float], ...]
    """Each deviation in SD with a grid line, and the y coordinate of the line."""

    @property
    def rejected(self) -> int:
        """The number of rejected controls."""
        return sum(bool(point.rule) for point in self.points)

    @property
    def path(self) -> str:
        """The points as the attribute `points` of a polyline."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)


def draw_controls(
    measured: Sequence[MeasuredControls], times: tuple[int, int], profile: Profile | None
) -> list[ControlChart]:
    """Return a chart for each assay and level with controls in the period."""
    lines = tuple((sd, _height(sd)) for sd in range(-3, 4))
    assays = profile.assays if profile else {}
    return [
        ControlChart(f"{assays.get(one.assay, one.assay)}, level {one.level}", _points(one, times), lines)
        for one in measured
    ]


def _points(measured: MeasuredControls, times: tuple[int, int]) -> tuple[ControlPoint, ...]:
    since_ms, until_ms = times
    points = []
    previous_sd = 0.0
    for control in measured.controls:
        sd = control.deviation_msd / 1000
        x = LEFT + (WIDTH - LEFT - RIGHT) * (control.at_ms - since_ms) / (until_ms - since_ms)
        points.append(ControlPoint(x, _height(sd), control.at_ms, sd, rejecting_rule(previous_sd, sd)))
        previous_sd = sd
    return tuple(points)


def rejecting_rule(previous_sd: float, sd: float) -> str:
    """Return the rule that rejects a control with the deviation `sd` after the previous one; empty if none does."""
    if abs(sd) > 3:
        return "1-3s"
    if (previous_sd > 2 and sd > 2) or (previous_sd < -2 and sd < -2):
        return "2-2s"
    return ""


def _height(sd: float) -> float:
    clipped = max(-SD_SHOWN, min(SD_SHOWN, sd))
    return HEIGHT / 2 - clipped * HEIGHT / (2 * SD_SHOWN + 1)
