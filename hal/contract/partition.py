"""Conformance checks of `hal.partition`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hal.partition import SECTOR_BYTES, Partition

SIZE = 64 * 1024


class PartitionBench(Protocol):
    """A zero-filled partition of `SIZE` bytes, to which access can be ended abruptly."""

    @property
    def partition(self) -> Partition:
        """The partition until `reopen`."""
        ...

    def reopen(self) -> Partition:
        """End access to the partition as abruptly as the bench can (power cut, process death) and open it again."""
        ...


def _content(offset: int, sectors: int = 1, mark: bytes = b"") -> bytes:
    return b"".join((mark + b"%08d" % (offset + n)).ljust(SECTOR_BYTES, b"-") for n in range(sectors))


def partition_has_a_size(bench: PartitionBench) -> None:
    """`size` is the partition's size, and all of it can be read."""
    assert bench.partition.size == SIZE
    assert bench.partition.read(0, SIZE) == bytes(SIZE)


def partition_reads_what_was_written(bench: PartitionBench) -> None:
    """Written sectors can be read back immediately, and neighbouring sectors are unchanged."""
    sector, zeros = _content(7), bytes(SECTOR_BYTES)
    bench.partition.write(3 * SECTOR_BYTES, sector)
    assert bench.partition.read(2 * SECTOR_BYTES, 3 * SECTOR_BYTES) == zeros + sector + zeros


def partition_reads_any_range(bench: PartitionBench) -> None:
    """Ranges to read may begin and end at any byte, including the end of the partition, and may be empty."""
    bench.partition.write(0, (content := _content(0, SIZE // SECTOR_BYTES)))
    for offset, length in ((0, 1), (511, 2), (4095, 4098), (SIZE - 1, 1), (1, SIZE - 1), (SIZE, 0), (77, 0)):
        assert bench.partition.read(offset, length) == content[offset : offset + length]


def partition_writes_its_last_sector(bench: PartitionBench) -> None:
    """The last sector can be written."""
    bench.partition.write(SIZE - SECTOR_BYTES, (sector := _content(1)))
    bench.partition.flush()
    assert bench.reopen().read(SIZE - SECTOR_BYTES, SECTOR_BYTES) == sector


def partition_keeps_what_was_flushed(bench: PartitionBench) -> None:
    """Every write before a flush survives an abrupt end."""
    for offset in range(0, SIZE, 3 * SECTOR_BYTES):
        bench.partition.write(offset, _content(offset))
    bench.partition.flush()
    partition = bench.reopen()
    for offset in range(0, SIZE, 3 * SECTOR_BYTES):
        assert partition.read(offset, SECTOR_BYTES) == _content(offset)


def partition_tears_by_sector_only(bench: PartitionBench) -> None:
    """After an abrupt end, each sector of an unflushed write is entirely old or new; flushed sectors are intact."""
    count = SIZE // SECTOR_BYTES
    bench.partition.write(0, _content(0, count, b"old"))
    bench.partition.flush()
    bench.partition.write(SECTOR_BYTES, _content(1, count - 2, b"new"))
    partition = bench.reopen()
    for number in range(count):
        sector = partition.read(number * SECTOR_BYTES, SECTOR_BYTES)
        choices = {_content(number, 1, b"old")}
        if 0 < number < count - 1:
            choices.add(_content(number, 1, b"new"))
        assert sector in choices


def partition_is_writable_after_reopening(bench: PartitionBench) -> None:
    """Data that was written and flushed before an abrupt end can be replaced after it."""
    bench.partition.write(0, _content(1))
    bench.partition.flush()
    partition = bench.reopen()
    partition.write(0, _content(2))
    partition.flush()
    assert partition.read(0, SECTOR_BYTES) == _content(2)


PARTITION_CHECKS: tuple[Callable[[PartitionBench], None], ...] = (
    partition_has_a_size,
    partition_reads_what_was_written,
    partition_reads_any_range,
    partition_writes_its_last_sector,
    partition_keeps_what_was_flushed,
    partition_tears_by_sector_only,
    partition_is_writable_after_reopening,
)
