"""Recordings of the disk's requests, and the disk after a power cut during one of them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from sim.worlds.image.disk.cache import SECTOR
from sim.worlds.image.disk.nbd import FLUSH, WRITE, DiskRequest
from sim.worlds.image.disk.recording import DiskRecorder, cut_during, recorded

SECTORS = 256
OLD, NEW, NEWER = (bytes([value]) * SECTOR for value in (1, 2, 3))


def write(offset: int, data: bytes, *, fua: bool = False) -> DiskRequest:
    return DiskRequest(WRITE, offset * SECTOR, len(data), data, fua)


FLUSHED = DiskRequest(FLUSH, 0, 0, b"", False)
REQUESTS = [write(0, NEW * 40), FLUSHED, write(0, NEWER * 40), write(64, NEW * 2, fua=True), FLUSHED]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    times = iter(range(100))
    recorder = DiskRecorder(tmp_path / "recording", lambda: next(times))
    for request in REQUESTS:
        recorder.add(request)
    return tmp_path / "recording"


def after_cut(recording: Path, index: int, seed: int = 1) -> list[bytes]:
    medium = recording.with_name("medium")
    medium.write_bytes(OLD * SECTORS)
    cut_during(medium, recorded(recording), index, Random(seed))
    data = medium.read_bytes()
    return [data[offset : offset + SECTOR] for offset in range(0, len(data), SECTOR)]


def test_a_recording_has_all_requests_with_their_times(recording: Path) -> None:
    requests = list(recorded(recording))
    assert [each.request for each in requests] == REQUESTS
    assert [each.at_ns for each in requests] == [0, 1, 2, 3, 4]
    assert [each.is_flush for each in requests] == [False, True, False, False, True]


def test_a_recording_whose_process_was_killed_ends_with_its_last_complete_request(recording: Path) -> None:
    content = recording.read_bytes()
    last = len(content) - len(NEW * 2)
    for length in (last, last - 30, last + 1):
        recording.write_bytes(content[:length])
        assert [each.request for each in recorded(recording)] in (REQUESTS[:3], REQUESTS[:4])


def test_a_cut_during_a_write_leaves_some_of_its_sectors(recording: Path) -> None:
    sectors = after_cut(recording, 0)
    assert 0 < sectors.count(NEW) < 40 and sectors.count(OLD) + sectors.count(NEW) == SECTORS


def test_a_cut_during_a_flush_leaves_some_of_the_sectors_written_before(recording: Path) -> None:
    sectors = after_cut(recording, 1)
    assert 0 < sectors[:40].count(NEW) < 40 and set(sectors[40:]) == {OLD}


def test_a_cut_never_loses_data_that_was_flushed_or_written_with_fua(recording: Path) -> None:
    for seed in range(10):
        sectors = after_cut(recording, 4, seed)
        assert set(sectors[:40]) == {NEW, NEWER} and sectors[64:66] == [NEW, NEW]


def test_a_cut_after_the_last_flush_loses_nothing(recording: Path) -> None:
    sectors = after_cut(recording, len(REQUESTS))
    assert sectors[:40] == [NEWER] * 40 and sectors[64:66] == [NEW, NEW]
