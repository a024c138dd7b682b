"""What `hal.disk` promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hal.disk import Disk, DiskError, DiskErrorKind

SIZE = 64 * 1024


class DiskBench(Protocol):
    """An empty disk, and a way to see what is left of it."""

    disk: Disk

    def reopen(self) -> Disk:
        """What is on the disk after the harshest end the bench can bring about: power cut, or process death."""
        ...

    def fill(self) -> None:
        """Leave no room for a file of `SIZE` bytes."""
        ...


def _kind(call: Callable[[], object]) -> DiskErrorKind | None:
    try:
        call()
    except DiskError as error:
        return error.kind
    return None


def disk_begins_empty(bench: DiskBench) -> None:
    """`names` of an empty disk is an empty list."""
    assert bench.disk.names() == []


def disk_lists_names_sorted(bench: DiskBench) -> None:
    """`names` gives all files, sorted; a name may have all the characters that are allowed."""
    names = ["b", "a.0-z", "0" * 64]
    for name in names:
        bench.disk.create(name, 512)
    assert bench.disk.names() == sorted(names)


def disk_creates_zeros(bench: DiskBench) -> None:
    """A new file has the size asked for and holds zeros."""
    bench.disk.create("a", SIZE)
    assert bench.disk.size("a") == SIZE
    assert bench.disk.read("a", 0, SIZE) == bytes(SIZE)


def disk_creates_empty_files(bench: DiskBench) -> None:
    """A size of nothing is a size."""
    bench.disk.create("a", 0)
    assert bench.disk.size("a") == 0 and bench.disk.read("a", 0, 0) == b""


def disk_create_is_durable(bench: DiskBench) -> None:
    """Name, size and zeros are there after the end, without a flush."""
    bench.disk.create("a", SIZE)
    disk = bench.reopen()
    assert disk.names() == ["a"] and disk.read("a", 0, SIZE) == bytes(SIZE)


def disk_create_replaces(bench: DiskBench) -> None:
    """Creating a name that exists leaves nothing of what was there."""
    bench.disk.create("a", SIZE)
    bench.disk.write("a", 0, b"x" * SIZE)
    bench.disk.flush("a")
    bench.disk.create("a", 1024)
    assert bench.disk.size("a") == 1024
    assert bench.reopen().read("a", 0, 1024) == bytes(1024)


def disk_reads_what_was_written(bench: DiskBench) -> None:
    """A write can be read back at once, at any offset, and changes nothing beside it."""
    bench.disk.create("a", SIZE)
    bench.disk.write("a", 511, b"abc")
    assert bench.disk.read("a", 509, 7) == b"\0\0abc\0\0"
    bench.disk.write("a", SIZE - 1, b"z")
    assert bench.disk.read("a", SIZE - 2, 2) == b"\0z"
    bench.disk.write("a", 512, b"B")
    assert bench.disk.read("a", 511, 3) == b"aBc"


def disk_keeps_what_was_flushed(bench: DiskBench) -> None:
    """Every write before a flush is there after the end."""
    bench.disk.create("a", SIZE)
    for offset in range(0, SIZE, 1000):
        bench.disk.write("a", offset, b"%05d" % offset)
    bench.disk.flush("a")
    disk = bench.reopen()
    for offset in range(0, SIZE, 1000):
        assert disk.read("a", offset, 5) == b"%05d" % offset


def disk_keeps_what_was_committed(bench: DiskBench) -> None:
    """Each commit is there after the end, whatever was written and not flushed beside it."""
    bench.disk.create("a", SIZE)
    for offset in range(0, SIZE, 1024):
        bench.disk.commit("a", offset, b"%05d" % offset)
        bench.disk.write("a", offset + 512, b"x")
    disk = bench.reopen()
    for offset in range(0, SIZE, 1024):
        assert disk.read("a", offset, 5) == b"%05d" % offset


def disk_tears_by_sector_only(bench: DiskBench) -> None:
    """What was not flushed is, sector by sector, old or new; what was flushed before stays."""
    bench.disk.create("a", SIZE)
    bench.disk.write("a", 0, b"o" * SIZE)
    bench.disk.flush("a")
    bench.disk.write("a", 512, b"n" * (SIZE - 1024))
    disk = bench.reopen()
    assert disk.read("a", 0, 512) == b"o" * 512 == disk.read("a", SIZE - 512, 512)
    for offset in range(512, SIZE - 512, 512):
        assert disk.read("a", offset, 512) in (b"o" * 512, b"n" * 512)


def disk_flushes_one_file(bench: DiskBench) -> None:
    """A flush of one file leaves others readable, and each is durable by its own flush."""
    for name in ("a", "b"):
        bench.disk.create(name, 1024)
        bench.disk.write(name, 0, name.encode())
    bench.disk.flush("a")
    bench.disk.flush("b")
    disk = bench.reopen()
    assert (disk.read("a", 0, 1), disk.read("b", 0, 1)) == (b"a", b"b")


def disk_rename_is_durable(bench: DiskBench) -> None:
    """The new name, and not the old one, is there after the end; what was flushed is in it."""
    bench.disk.create("a", 1024)
    bench.disk.write("a", 0, b"x")
    bench.disk.flush("a")
    bench.disk.rename("a", "b")
    assert bench.disk.read("b", 0, 1) == b"x"
    disk = bench.reopen()
    assert disk.names() == ["b"] and disk.read("b", 0, 1) == b"x"


def disk_rename_replaces(bench: DiskBench) -> None:
    """A file that had the new name is gone."""
    for name in ("a", "b"):
        bench.disk.create(name, 1024)
        bench.disk.write(name, 0, name.encode())
        bench.disk.flush(name)
    bench.disk.rename("a", "b")
    assert bench.disk.names() == ["b"] and bench.disk.read("b", 0, 1) == b"a"
    bench.disk.write("b", 1, b"!")
    bench.disk.flush("b")
    assert bench.reopen().read("b", 0, 2) == b"a!"


def disk_writes_follow_a_rename(bench: DiskBench) -> None:
    """Writes made before a rename are durable by a flush after it."""
    bench.disk.create("a", 1024)
    bench.disk.write("a", 0, b"x")
    bench.disk.rename("a", "b")
    bench.disk.flush("b")
    assert bench.reopen().read("b", 0, 1) == b"x"


def disk_remove_is_durable(bench: DiskBench) -> None:
    """A removed file does not come back."""
    bench.disk.create("a", 1024)
    bench.disk.remove("a")
    assert bench.disk.names() == [] and bench.reopen().names() == []


def disk_says_what_is_missing(bench: DiskBench) -> None:
    """Every call that names a file which is not there raises MISSING."""
    disk = bench.disk
    calls: list[Callable[[], object]] = [
        lambda: disk.size("a"),
        lambda: disk.read("a", 0, 1),
        lambda: disk.write("a", 0, b"x"),
        lambda: disk.flush("a"),
        lambda: disk.commit("a", 0, b"x"),
        lambda: disk.rename("a", "b"),
        lambda: disk.remove("a"),
    ]
    assert [_kind(call) for call in calls] == [DiskErrorKind.MISSING] * len(calls)
    disk.create("a", 512)
    disk.remove("a")
    assert [_kind(call) for call in calls] == [DiskErrorKind.MISSING] * len(calls)


def disk_says_when_it_is_full(bench: DiskBench) -> None:
    """`create` raises FULL and makes nothing; what exists can still be written; removing makes room."""
    bench.disk.create("a", SIZE)
    bench.fill()
    assert _kind(lambda: bench.disk.create("b", SIZE)) is DiskErrorKind.FULL
    assert bench.disk.names() == ["a"]
    bench.disk.write("a", 0, b"x" * SIZE)
    bench.disk.flush("a")
    bench.disk.remove("a")
    bench.disk.create("b", SIZE)
    assert bench.reopen().names() == ["b"]


DISK_CHECKS: tuple[Callable[[DiskBench], None], ...] = (
    disk_begins_empty,
    disk_lists_names_sorted,
    disk_creates_zeros,
    disk_creates_empty_files,
    disk_create_is_durable,
    disk_create_replaces,
    disk_reads_what_was_written,
    disk_keeps_what_was_flushed,
    disk_keeps_what_was_committed,
    disk_tears_by_sector_only,
    disk_flushes_one_file,
    disk_rename_is_durable,
    disk_rename_replaces,
    disk_writes_follow_a_rename,
    disk_remove_is_durable,
    disk_says_what_is_missing,
    disk_says_when_it_is_full,
)
