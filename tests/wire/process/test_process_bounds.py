"""A process's limits of file descriptors and memory, and those of its control groups."""

from __future__ import annotations

import mmap
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from wire.process.bounds import Bounds, Level
from wire.process.resources import memory_limit, process_bounds, used_and_total

MIB = 1024 * 1024
DESCRIPTORS, MEMORY = range(2)


@pytest.fixture
def open_files_limited() -> Iterator[int]:
    """Set the soft limit of open files to twice their current number (at least 100); yield it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    measured = process_bounds()[DESCRIPTORS].measure()
    assert measured is not None
    limit = max(100, 2 * int(measured[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_at_79_and_at_80_percent_of_their_limit(open_files_limited: int) -> None:
    reported: list[Level] = []
    bounds, bound = Bounds(reported.append), process_bounds()[DESCRIPTORS]
    bounds.add(bound)
    files: list[int] = []

    def open_until(count: int) -> list[bool]:
        measured = bound.measure()
        assert measured is not None
        files.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(count - int(measured[0])))
        reported.clear()
        bounds.check()
        return [level.is_near for level in reported]

    threshold = -(-4 * open_files_limited // 5)
    try:
        assert open_until(threshold - 1) == []
        assert open_until(threshold) == [True]
        assert open_until(open_files_limited) == [], (
            "at the limit, /proc/self/fd cannot be opened: all descriptors count as used"
        )
        assert bounds.levels[0].percent == 100
    finally:
        for file in files:
            os.close(file)
    assert open_until(0) == [False]


def test_memory_is_that_of_the_process() -> None:
    bound = process_bounds()[MEMORY]
    # mapped and not allocated: malloc would first use memory that earlier tests have freed
    with mmap.mmap(-1, 64 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as ballast:
        before = bound.measure()
        for page in range(0, len(ballast), mmap.PAGESIZE):
            ballast[page] = 1
        after = bound.measure()
        assert before is not None
        assert after is not None
        assert after[0] - before[0] > 0.9 * len(ballast)


def control_group(root: Path, limits: dict[str, str], member: str) -> tuple[Path, Path]:
    """Write the files of `/proc/self` and `/sys/fs/cgroup`, with `memory.max` of some groups; return both."""
    proc, groups = root / "proc", root / "cgroup"
    proc.mkdir()
    (proc / "cgroup").write_text(member)
    groups.mkdir()
    for name, limit in limits.items():
        (groups / name).mkdir(parents=True, exist_ok=True)
        (groups / name / "memory.max").write_text(limit)
    return proc, groups


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"system.slice/rap-box.service": f"{512 * MIB}\n"}, 512 * MIB),
        ({"system.slice": f"{64 * MIB}\n", "system.slice/rap-box.service": f"{512 * MIB}\n"}, 64 * MIB),
        ({"system.slice": f"{64 * MIB}\n", "system.slice/rap-box.service": "max\n"}, 64 * MIB),
    ],
)
def test_the_lowest_limit_of_all_parent_cgroups_applies(
    tmp_path: Path, limits: dict[str, str], expected: int
) -> None:
    proc, groups = control_group(tmp_path, limits, "0::/system.slice/rap-box.service\n")
    assert memory_limit(proc, groups) == expected


@pytest.mark.parametrize("member", ["", "0::/\n", "4:memory:/docker/1\n0::/not/there\n"])
def test_without_a_cgroup_limit_the_limit_is_the_machines_memory(tmp_path: Path, member: str) -> None:
    proc, groups = control_group(tmp_path, {}, member)
    assert memory_limit(proc, groups) == os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
    assert memory_limit(tmp_path / "none", groups) == memory_limit(proc, groups)


def test_file_system_usage_is_between_zero_and_the_total(tmp_path: Path) -> None:
    used, total = used_and_total(tmp_path)
    assert 0 < used < total
    with pytest.raises(OSError, match="none"):
        used_and_total(tmp_path / "none")
