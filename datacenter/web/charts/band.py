"""The distribution of a reading by day, as an SVG chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

WIDTH: Final = 900
HEIGHT: Final = 220
LEFT: Final = 64
RIGHT: Final = 8
TOP, BOTTOM = 8, 24


@dataclass(frozen=True)
class BandChart:
    """The chart: outlines of the outer and inner band, and lines of the medians, for each span of successive days."""

    outer: tuple[str, ...]
    inner: tuple[str, ...]
    medians: tuple[str, ...]
    levels: tuple[tuple[float, float], ...]
    """Values with a grid line, and the y coordinate of the line."""
    days: tuple[tuple[int, float], ...]
    """Days with a label, and the x coordinate of the label."""


def draw_band(days: Mapping[int, Sequence[float]], shown: range) -> BandChart:
    """Draw the percentiles 5, 25, 50, 75 and 95 of days, at least one; `shown` are all days of the chart."""
    low, high = min(one[0] for one in days.values()), max(one[4] for one in days.values())
    margin = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    bottom, top = low - margin, high + margin
    step = (WIDTH - LEFT - RIGHT) / len(shown)

    def x(day: float) -> float:
        return LEFT + (day - shown.start) * step

    def y(value: float) -> float:
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    def line(span: Sequence[int], percentile: int) -> list[str]:
        points = []
        for day in span:  # a day is a step, from its beginning to its end
            height = f"{y(days[day][percentile]):.1f}"
            points += [f"{x(day):.1f},{height}", f"{x(day + 1):.1f},{height}"]
        return points

    spans = _spans(sorted(days))
    outlines = [
        tuple(" ".join(line(span, lower) + line(span, upper)[::-1]) for span in spans)
        for lower, upper in ((0, 4), (1, 3))
    ]
    medians = tuple(" ".join(line(span, 2)) for span in spans)
    levels = tuple((value, y(value)) for value in (low, (low + high) / 2, high))
    every = max(1, -(-len(shown) // 6))
    labels = tuple((day, x(day + 0.5)) for day in shown[every // 2 :: every])
    return BandChart(outlines[0], outlines[1], medians, levels, labels)


def _spans(days: Sequence[int]) -> list[list[int]]:
    """Split ascending days into spans of successive days."""
    spans = [[days[0]]]
    for before, day in pairwise(days):
        if day == before + 1:
            spans[-1].append(day)
        else:
            spans.append([day])
    return spans
