"""Divides a picture into bands, and detects changes in them.

Bands are as high as the rows of the table or the list that a screen shows, or a fraction of that: a letter then has
the same vertical position in each band, so that its columns have the same bytes each time.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Final

from wire.desktop.picture import Area, Picture

BAND_ROWS: Final = 16
"""Default height of a band in rows, for pictures without periodic lines of text."""
_BAND_ROWS_BEST: Final = 13
"""Preferred height of a band in rows: about one line of text."""
_BAND_ROWS: Final = range(9, 25)
"""Possible heights of a band in rows."""
PERIODS: Final = range(10, 61)
"""Line spacings that are recognized, in rows."""
_EVERY_PIXELS: Final = 3
"""Every third column is sampled: enough to distinguish text from the space between lines."""
_CORRELATION_MIN: Final = 0.25
_RUN: Final = re.compile(rb"\x01+(?:\x00{1,6}\x01+)*")
"""A run of changed columns. Up to six unchanged columns in between cost less than another tile."""


def find_band_rows(picture: Picture) -> int:
    """Return the height of bands in rows: the line spacing, or the fraction of it nearest to a line of text.

    The number of shades in a row is high within letters and low between lines; its autocorrelation peaks at the
    line spacing.
    """
    if picture.height < 3 * PERIODS[-1]:
        return BAND_ROWS
    shades = [
        len(set(bytes(picture.row(0, y, picture.width))[1 :: 4 * _EVERY_PIXELS]))
        for y in range(picture.height)
    ]
    mean = sum(shades) / len(shades)
    profile = [count - mean for count in shades]
    power = sum(value * value for value in profile)
    if not power:
        return BAND_ROWS
    correlations = {
        period: sum(a * b for a, b in zip(profile, profile[period:], strict=False))
        / power
        * len(profile)
        / (len(profile) - period)
        for period in PERIODS
    }
    best = max(correlations.values())
    if best < _CORRELATION_MIN:
        return BAND_ROWS
    period = next(period for period, value in correlations.items() if value >= 0.9 * best)
    fractions = [
        period // parts for parts in range(1, 7) if period % parts == 0 and period // parts in _BAND_ROWS
    ]
    return min(fractions, key=lambda rows: abs(rows - _BAND_ROWS_BEST), default=BAND_ROWS)


def band_of(y: int, band_rows: int, height: int) -> tuple[int, int]:
    """Return the first row of the band with row `y`, and the first row below it."""
    top = y // band_rows * band_rows
    return top, min(height, top + band_rows)


def changed_runs(before: Picture, now: Picture, band: Area) -> Iterator[Area]:
    """Yield the parts of a band, over its whole height, whose columns differ between two pictures of one size."""
    if band.width <= 0:
        return
    difference = 0
    for y in range(band.y, band.bottom):
        old, new = before.row(band.x, y, band.width), now.row(band.x, y, band.width)
        if old != new:
            difference |= int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
    if not difference:
        return
    columns = memoryview(difference.to_bytes(4 * band.width, "little")).cast("I")
    for run in _RUN.finditer(bytes(map(bool, columns))):
        yield Area(band.x + run.start(), band.y, run.end() - run.start(), band.height)


def by_columns(picture: Picture, area: Area) -> array[int]:
    """Return the pixels of an area, column by column."""
    pixels, width = picture.pixels, picture.width
    columns = array("I", bytes(4 * area.pixels))
    for row, y in enumerate(range(area.y, area.bottom)):
        start = y * width + area.x
        columns[row :: area.height] = array("I", pixels[start : start + area.width])
    return columns
