from __future__ import annotations

import struct

import pytest

from agents.box.desktop.bands import BAND_ROWS, by_columns, changed_runs, find_band_rows
from tests.support.desktop.screens import Analyzer, to_picture
from wire.desktop.picture import Area, Picture


def lines(period: int) -> Picture:
    """Return a screen with text-like noise in lines at a distance of `period` rows."""
    picture = Picture(200, 300)
    for y in range(300):
        if y % period < period * 2 // 3:
            for x in range(200):
                picture.pixels[y * 200 + x] = (x * y * 2654435761 >> 7) & 0xFF00
    return picture


@pytest.mark.parametrize(("period", "rows"), [(13, 13), (15, 15), (20, 10), (24, 12), (26, 13), (40, 10)])
def test_bands_are_a_period_of_lines_or_its_fraction(period: int, rows: int) -> None:
    assert find_band_rows(lines(period)) == rows


def test_a_table_of_an_analyzer_has_bands_of_half_its_rows() -> None:
    assert find_band_rows(to_picture(next(Analyzer().script()).screen)) == 13


@pytest.mark.parametrize("picture", [Picture(200, 300), Picture(5, 5)])
def test_a_screen_without_lines_has_usual_bands(picture: Picture) -> None:
    assert find_band_rows(picture) == BAND_ROWS


def test_changed_runs_join_over_short_gaps() -> None:
    before, now = Picture(60, 8), Picture(60, 8)
    for x, y in ((3, 2), (9, 5), (20, 2), (59, 7)):
        now.pixels[y * 60 + x] = 1
    runs = list(changed_runs(before, now, Area(0, 0, 60, 8)))
    assert runs == [Area(3, 0, 7, 8), Area(20, 0, 1, 8), Area(59, 0, 1, 8)]
    assert list(changed_runs(before, now, Area(4, 0, 16, 5))) == []
    assert list(changed_runs(before, now, Area(4, 5, 10, 3))) == [Area(9, 5, 1, 3)]


def test_pixels_by_columns() -> None:
    picture = Picture(3, 2)
    picture.data[:] = struct.pack("<6I", 1, 2, 3, 4, 5, 6)
    assert list(by_columns(picture, picture.area)) == [1, 4, 2, 5, 3, 6]
    assert list(by_columns(picture, Area(1, 0, 2, 2))) == [2, 5, 3, 6]
