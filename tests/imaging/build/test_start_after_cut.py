"""The reports that a start after a power cut must deliver, and the results of a start that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.worlds.image.disk.nbd import FLUSH, DiskRequest
from sim.worlds.image.disk.recording import RecordedRequest
from tests.support.imaging.starts.recorded_start import Life, RecordedStart, Stored
from tests.support.imaging.starts.start_after_cut import Started, owed, wrong_reports

FLUSHED = DiskRequest(FLUSH, 0, 0, b"", False)


def recorded_start(folder: Path) -> RecordedStart:
    """Return a start with flushes at 10, 20 and 30, in which reports 1, 2 and 3 are acknowledged at 12, 20 and 40.

    Only report 1 is stored, at 25.
    """
    requests = [RecordedRequest(at_ns, FLUSHED) for at_ns in (10, 20, 30)]
    acknowledged = [Stored(5, 1, 12), Stored(5, 2, 20), Stored(5, 3, 40)]
    return RecordedStart(Life(folder, "RAP-0001", 5), requests, acknowledged, [Stored(5, 1, 25)])


@pytest.mark.parametrize(
    ("index", "reports"), [(0, set()), (1, {(5, 1), (5, 2)}), (2, {(5, 2)}), (3, {(5, 2), (5, 3)})]
)
def test_reports_must_be_delivered_from_their_acknowledgement_until_they_are_stored(
    tmp_path: Path, index: int, reports: set[tuple[int, int]]
) -> None:
    assert owed(recorded_start(tmp_path), index) == reports


@pytest.mark.parametrize(
    ("stored", "run", "problem"),
    [
        ([(6, 1), (5, 2)], 6, ""),
        ([(6, 1), (5, 1), (5, 2)], 6, ""),
        ([(5, 2)], 6, "no report was stored after the start"),
        ([(6, 1), (5, 1)], 6, "acknowledged reports were lost: [(5, 2)]"),
        ([(1001, 1), (5, 2)], 1001, "the box knew a run 1000 of the instrument"),
        ([(6, 1), (5, 2), (1000, 7)], 6, "reports of a former life were stored: [(1000, 7)]"),
        ([(6, 1), (5, 2), (5, 2)], 6, "reports were stored twice: [(6, 1), (5, 2), (5, 2)]"),
    ],
)
def test_a_start_that_loses_repeats_or_mixes_reports_is_wrong(
    stored: list[tuple[int, int]], run: int, problem: str
) -> None:
    started = Started([Stored(*each, 0) for each in stored], run, "")
    assert list(wrong_reports(started, 6, 5, {(5, 2)})) == [problem] * bool(problem)
