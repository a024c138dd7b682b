"""The power cuts in the benchmark of first starts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from bench.image.start_cuts import CUTS_OF_A_LIFE, cuts_of
from tests.support.imaging.starts.recorded_start import RecordedStart

REQUESTS = 500


def test_no_power_cut_of_a_start_is_tried_twice() -> None:
    """This includes a start that writes no superblock in its second half."""
    recorded = SimpleNamespace(
        flushes=list(range(4, REQUESTS, 5)),
        unflushed_superblocks=[
            ["a superblock"] if index < REQUESTS // 2 else [] for index in range(REQUESTS)
        ],
    )
    cuts = list(cuts_of(cast(RecordedStart, recorded)))
    assert len(set(cuts)) == len(cuts) == CUTS_OF_A_LIFE
    torn = [cut.index for cut in cuts if cut.half is not None]
    assert all(recorded.unflushed_superblocks[index] for index in torn)
