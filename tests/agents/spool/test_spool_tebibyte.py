"""The largest spool that a configuration permits, full: 1 TiB in 16,384 sparse files, 10,010,013 waiting records."""

from __future__ import annotations

import resource
import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agents.box.configuration.config import SPOOL_BYTES_MAX
from agents.spool import GapReason, Priority, Spool, SpoolLimits
from hal.linux.direct import DESCRIPTORS_MAX as DIRECT_DESCRIPTORS_MAX
from hal.linux.disk import DESCRIPTORS_MAX, LinuxDisk
from tests.support.agents.spool.model import decode_gap
from tests.support.agents.spool.sparse_spool import CountingDisk, make_sparse_spool, open_sparse

ALERT, AUDIT, ROUTINE = Priority
LIMITS = SpoolLimits(spool_bytes_max=SPOOL_BYTES_MAX)
SEGMENTS = 16 * 1024 - 1  # one more is in reserve
PRIORITIES = bytes((*[ROUTINE] * 609, ALERT, AUDIT))  # the records of each segment
# a file system with sparse files, where creating and removing 16,384 files takes seconds
MEMORY = Path("/dev/shm")
OPENING_BYTES_MAX = 64 * 1000 * 1000  # of memory


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A folder for 0.4 GB in 16,384 files, in memory if there is space. It is removed after the test."""
    parent = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2 << 30 else tmp_path
    with TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def generation(disk: LinuxDisk) -> int:
    """Return the generation of the newest segment."""
    return max(int(name.split("-")[1], 16) for name in disk.names())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def routine_through(spool: Spool, first: int, last: int) -> list[int]:
    """Return the numbers of the routine records that are read from `first` to `last`."""
    return [seq for seq, _ in spool.read(ROUTINE, last - first + 1, 1 << 30, first - 1) if seq <= last]


def check_counts(spool: Spool, dropped: int = 0, acked: int = 0, appended: int = 0) -> None:
    status = spool.status()
    assert status.segments == SEGMENTS + 1
    assert status.disk_bytes == SPOOL_BYTES_MAX
    assert status.records[ROUTINE] == SEGMENTS * 609 - dropped - acked + appended
    assert status.records[ALERT] == SEGMENTS
    assert status.records[AUDIT] == SEGMENTS + (dropped > 0)


@pytest.mark.usefixtures("few_descriptors")
@pytest.mark.slow("opens a spool of 16,384 segments twice")
def test_a_full_spool_of_one_tebibyte_works(directory: Path) -> None:
    make_sparse_spool(directory, LIMITS, SEGMENTS, [(PRIORITIES, [b"a record"] * 611)])
    before = descriptors()
    disk = CountingDisk(directory)
    tracemalloc.start()
    spool = open_sparse(disk, LIMITS)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < OPENING_BYTES_MAX
    assert disk.reads < SEGMENTS + 1000
    assert disk.bytes_read < 512 * SEGMENTS + LIMITS.segment_bytes + (1 << 20), (
        "summaries, and the newest segment"
    )
    check_counts(spool)
    assert not spool.recovery.gaps

    # the oldest records are delivered, and acknowledged ones are not read again
    assert routine_through(spool, 1, 1300) == [*range(1, 610), *range(612, 1221), *range(1223, 1301)]
    assert [seq for seq, _ in spool.read(ALERT, 3, 1 << 20)] == [610, 1221, 1832]
    spool.ack(ROUTINE, 100)
    check_counts(spool, acked=100)

    last = spool.status().next_seq - 1

    # the newest segment is filled; then the oldest one is reclaimed, and its alerts are kept
    payload, appended = b"x" * LIMITS.record_bytes_max, 0
    while generation(disk) == SEGMENTS:
        assert appended < 2000
        appended += len(spool.append([ROUTINE] * 8, [payload] * 8))
    check_counts(spool, dropped=509, acked=100, appended=appended)
    (gap,) = [gap for _, data in spool.read(AUDIT, 9, 1 << 20, last) if (gap := decode_gap(data))]
    assert (gap.reason, gap.ranges) == (GapReason.FULL, ((101, 609),))
    assert [seq for seq, _ in spool.read(ALERT, 2, 1 << 20)] == [610, 1221]
    assert routine_through(spool, 1, 613) == [612, 613]
    disk.close()

    # opening the spool again, without a clean close, changes none of these
    disk = CountingDisk(directory)
    spool = open_sparse(disk, LIMITS)
    check_counts(spool, dropped=509, acked=100, appended=appended)
    assert {gap.reason for gap in spool.recovery.gaps} <= {GapReason.UNUSED}
    assert descriptors() <= before + DESCRIPTORS_MAX + DIRECT_DESCRIPTORS_MAX + 1

    # all records are delivered, and the files are reused
    for priority in Priority:
        spool.ack(priority, spool.status().next_seq - 1)
    spool.append([ROUTINE], [b"last"])
    spool.ack(AUDIT, spool.status().next_seq - 1)
    assert spool.status().records == {ALERT: 0, AUDIT: 0, ROUTINE: 1}
    assert spool.status().disk_bytes == SPOOL_BYTES_MAX
    assert spool.status().live_bytes < LIMITS.segment_bytes
    disk.close()
