"""Conformance checks of `hal.disk`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hal.disk import Disk, DiskError, DiskErrorKind

SIZE = 64 * 1024


class DiskBench(Protocol):
    """An empty disk, with control of its abrupt end and its free space."""

    @property
    def disk(self) -> Disk:
        """The disk until `reopen`."""
        ...

    def reopen(self) -> Disk:
        """End access to the disk as abruptly as the bench can (power cut, process death) and open it again."""
        ...

    def fill(self) -> None:
        """Use up free space until there is no room for a file of `SIZE` bytes."""
        ...


def _kind(call: Callable[[], object]) -> DiskErrorKind | None:
    try:
        call()
    except DiskError as error:
        return error.kind
    return None


def disk_begins_empty(bench: DiskBench) -> None:
    """`names` of an empty disk returns an empty list."""
    assert bench.disk.names() == []


def disk_lists_names_sorted(bench: DiskBench) -> None:
    """`names` returns all files, sorted; all permitted characters work in names."""
    names = ["b", "a.0-z", "0" * 64]
    for name in names:
        bench.disk.create(name, 512)
    assert bench.disk.names() == sorted(names)


def disk_creates_zeros(bench: DiskBench) -> None:
    """A new file has the requested size and contains zeros."""
    bench.disk.create("a", SIZE)
    assert bench.disk.size("a") == SIZE
    assert bench.disk.read("a", 0, SIZE) == bytes(SIZE)


def disk_creates_empty_files(bench: DiskBench) -> None:
    """A file of size 0 can be created and read."""
    bench.disk.create("a", 0)
    assert bench.disk.size("a") == 0 and bench.disk.read("a", 0, 0) == b""


def disk_create_is_durable(bench: DiskBench) -> None:
    """Name, size and zeros of a new file survive an abrupt end without a flush."""
    bench.disk.create("a", SIZE)
    disk = bench.reopen()
    assert disk.names() == ["a"] and disk.read("a", 0, SIZE) == bytes(SIZE)


def disk_create_replaces(bench: DiskBench) -> None:
    """Creating an existing name replaces the file's size and content."""
    bench.disk.create("a", SIZE)
    bench.disk.write("a", 0, b"x" * SIZE)
    bench.disk.flush("a")
    bench.disk.create("a", 1024)
    assert bench.disk.size("a") == 1024
    assert bench.reopen().read("a", 0, 1024) == bytes(1024)


def disk_reads_what_was_written(bench: DiskBench) -> None:
    """Written bytes can be read back immediately at any offset, and neighbouring bytes are unchanged."""
    bench.disk.create("a", SIZE)
    bench.disk.write("a", 511, b"abc")
    assert bench.disk.read("a", 509, 7) == b"\0\0abc\0\0"
    bench.disk.write("a", SIZE - 1, b"z")
    assert bench.disk.read("a", SIZE - 2, 2) == b"\0z"
    bench.disk.write("a", 512, b"B")
    assert bench.disk.read("a", 511, 3) == b"aBc"


def disk_keeps_what_was_flushed(bench: DiskBench) -> None:
    """Every write before a flush survives an abrupt end."""
    bench.disk.create("a", SIZE)
    for offset in range(0, SIZE, 1000):
        bench.disk.write("a", offset, b"%05d" % offset)
    bench.disk.flush("a")
    disk = bench.reopen()
    for offset in range(0, SIZE, 1000):
        assert disk.read("a", offset, 5) == b"%05d" % offset


def disk_keeps_what_was_committed(bench: DiskBench) -> None:
    """Each commit survives a power cut, regardless of unflushed writes to other sectors."""
    bench.disk.create("a", SIZE)
    for offset in range(0, SIZE, 1024):
        bench.disk.commit("a", offset, b"%05d" % offset)
        bench.disk.write("a", offset + 512, b"x")
    disk = bench.reopen()
    for offset in range(0, SIZE, 1024):
        assert disk.read("a", offset, 5) == b"%05d" % offset


def disk_tears_by_sector_only(bench: DiskBench) -> None:
    """After an abrupt end, each sector of an unflushed write is entirely old or new; flushed sectors are intact."""
    bench.disk.create("a", SIZE)
    bench.disk.write("a", 0, b"o" * SIZE)
    bench.disk.flush("a")
    bench.disk.write("a", 512, b"n" * (SIZE - 1024))
    disk = bench.reopen()
    assert disk.read("a", 0, 512) == b"o" * 512 == disk.read("a", SIZE - 512, 512)
    for offset in range(512, SIZE - 512, 512):
        assert disk.read("a", offset, 512) in (b"o" * 512, b"n" * 512)


def disk_flushes_one_file(bench: DiskBench) -> None:
    """Each file becomes durable by its own flush, and flushing one leaves the other readable."""
    for name in ("a", "b"):
        bench.disk.create(name, 1024)
        bench.disk.write(name, 0, name.encode())
    bench.disk.flush("a")
    bench.disk.flush("b")
    disk = bench.reopen()
    assert (disk.read("a", 0, 1), disk.read("b", 0, 1)) == (b"a", b"b")


def disk_rename_is_durable(bench: DiskBench) -> None:
    """After a rename and an abrupt end, only the new name exists, with the flushed content."""
    bench.disk.create("a", 1024)
    bench.disk.write("a", 0, b"x")
    bench.disk.flush("a")
    bench.disk.rename("a", "b")
    assert bench.disk.read("b", 0, 1) == b"x"
    disk = bench.reopen()
    assert disk.names() == ["b"] and disk.read("b", 0, 1) == b"x"


def disk_rename_replaces(bench: DiskBench) -> None:
    """Renaming to an existing name replaces that file."""
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
    """A flush after a rename makes writes from before the rename durable."""
    bench.disk.create("a", 1024)
    bench.disk.write("a", 0, b"x")
    bench.disk.rename("a", "b")
    bench.disk.flush("b")
    assert bench.reopen().read("b", 0, 1) == b"x"


def disk_remove_is_durable(bench: DiskBench) -> None:
    """A removed file does not reappear after an abrupt end."""
    bench.disk.create("a", 1024)
    bench.disk.remove("a")
    assert bench.disk.names() == [] and bench.reopen().names() == []


def disk_reports_missing_files(bench: DiskBench) -> None:
    """Every call that names a nonexistent file raises MISSING."""
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


def disk_reports_lack_of_space(bench: DiskBench) -> None:
    """`create` raises FULL and creates nothing; existing files can still be written; removing one frees space."""
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
    disk_reports_missing_files,
    disk_reports_lack_of_space,
)
