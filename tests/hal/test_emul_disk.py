"""Faults of the emulated disk behave like those of a real disk."""

from __future__ import annotations

from random import Random

import pytest

from hal.disk import DiskError, DiskErrorKind
from hal.emul.disk import EmulDisk

SIZE = 32 * 512


def make(seed: int = 1, **latency: int) -> EmulDisk:
    disk = EmulDisk(1 << 20, Random(seed))
    disk.create("a", SIZE)
    disk.write("a", 0, b"o" * SIZE)
    disk.flush("a")
    disk.backend.set_latency(**latency)
    return disk


def sectors(disk: EmulDisk) -> set[bytes]:
    return {disk.read("a", offset, 512)[:1] for offset in range(0, SIZE, 512)}


def is_unavailable(disk: EmulDisk) -> bool:
    with pytest.raises(DiskError) as caught:
        disk.names()
    return caught.value.kind is DiskErrorKind.UNAVAILABLE


def test_a_power_cut_tears_writes_and_disables_the_disk_object() -> None:
    disk = make()
    disk.write("a", 0, b"n" * SIZE)
    after = disk.backend.cut_power()
    assert sectors(after) == {b"o", b"n"}
    assert is_unavailable(disk) and not disk.backend.has_power and after.backend.has_power


def test_the_same_seed_gives_the_same_torn_writes() -> None:
    torn = []
    for _ in range(2):
        disk = make(seed=7)
        disk.write("a", 0, b"n" * SIZE)
        torn.append(disk.backend.cut_power().read("a", 0, SIZE))
    assert torn[0] == torn[1]


@pytest.mark.parametrize("operation", [1, 2, 3])
def test_power_is_cut_at_the_nth_operation(operation: int) -> None:
    disk = make()
    disk.backend.cut_power_at(operation)
    completed = 0
    with pytest.raises(DiskError) as caught:
        for data in (b"1", b"2"):
            disk.write("a", 0, data * SIZE)
            completed += 1
            disk.flush("a")
            completed += 1
    assert caught.value.kind is DiskErrorKind.UNAVAILABLE and completed == operation - 1
    content = sectors(disk.backend.reboot())
    assert content <= {1: {b"o", b"1"}, 2: {b"o", b"1"}, 3: {b"1", b"2"}}[operation]


def test_a_rename_is_atomic_in_a_power_cut() -> None:
    names = set()
    for seed in range(20):
        disk = make(seed)
        disk.backend.cut_power_at(1)
        with pytest.raises(DiskError):
            disk.rename("a", "b")
        names.add(tuple(disk.backend.reboot().names()))
    assert names == {("a",), ("b",)}


@pytest.mark.parametrize(("cut_at", "expected"), [(99, {b"o", b"n"}), (100, {b"n"})])
def test_a_flush_is_durable_only_after_its_latency(cut_at: int, expected: set[bytes]) -> None:
    now = [0]
    spent: list[int] = []
    disk = EmulDisk(1 << 20, Random(3), now_ns=lambda: now[0], spend=spent.append)
    disk.create("a", SIZE)
    disk.write("a", 0, b"o" * SIZE)
    disk.flush("a")
    disk.backend.set_latency(flush_ns=100)
    disk.write("a", 0, b"n" * SIZE)
    disk.flush("a")
    assert spent == [100]
    now[0] = cut_at
    assert sectors(disk.backend.cut_power()) == expected


def test_flush_duration_depends_on_the_number_of_bytes() -> None:
    spent: list[int] = []
    disk = EmulDisk(1 << 20, Random(3), spend=spent.append)
    disk.backend.set_latency(flush_ns=10, written_byte_ns=0.5)
    disk.create("a", 1000)
    disk.write("a", 0, b"x" * 100)
    disk.flush("a")
    assert spent == [510, 60]


def test_a_flush_after_a_failed_flush_does_not_make_data_durable() -> None:
    lost = 0
    for seed in range(10):
        disk = make(seed)
        disk.backend.fail_next_flush()
        disk.write("a", 0, b"n" * SIZE)
        with pytest.raises(DiskError) as caught:
            disk.flush("a")
        assert caught.value.kind is DiskErrorKind.IO
        assert sectors(disk) == {b"n"}  # reads from the cache return the new content
        disk.flush("a")
        lost += b"o" in sectors(disk.backend.cut_power())
    assert lost == 10


def test_data_written_again_after_a_failed_flush_becomes_durable() -> None:
    disk = make()
    disk.backend.fail_next_flush()
    disk.write("a", 0, b"n" * SIZE)
    with pytest.raises(DiskError):
        disk.flush("a")
    disk.write("a", 0, b"m" * SIZE)
    disk.flush("a")
    assert sectors(disk.backend.cut_power()) == {b"m"}


def test_a_failed_write_changes_nothing() -> None:
    disk = make()
    disk.backend.fail_next_write()
    with pytest.raises(DiskError):
        disk.write("a", 0, b"n" * SIZE)
    assert sectors(disk) == {b"o"}


def test_a_failed_read_does_not_change_the_data() -> None:
    disk = make()
    disk.backend.fail_next_read(2)
    for _ in range(2):
        with pytest.raises(DiskError):
            disk.read("a", 0, SIZE)
    assert disk.read("a", 0, SIZE) == b"o" * SIZE


def test_bits_are_flipped_in_sectors_with_data() -> None:
    disk = EmulDisk(1 << 20, Random(5))
    disk.create("a", SIZE)
    disk.write("a", 1024, b"x" * 512)
    assert disk.backend.flip_bits(bits=3) == ("a", 1024)
    flipped = int.from_bytes(disk.read("a", 1024, 512)) ^ int.from_bytes(b"x" * 512)
    assert flipped.bit_count() == 3


def test_an_unreadable_sector_is_readable_after_a_write() -> None:
    disk = make()
    disk.backend.make_unreadable("a", 600)
    assert disk.read("a", 0, 512) and disk.read("a", 1024, 512)
    with pytest.raises(DiskError) as caught:
        disk.read("a", 500, 100)
    assert caught.value.kind is DiskErrorKind.IO
    disk.write("a", 512, b"n" * 512)
    assert disk.read("a", 512, 512) == b"n" * 512


def test_a_file_of_exactly_the_free_space_fits() -> None:
    disk = EmulDisk(4096, Random(1))
    disk.create("a", 4095)
    disk.create("b", 1)
    assert disk.backend.free_bytes() == 0
    with pytest.raises(DiskError) as caught:
        disk.create("c", 1)
    assert caught.value.kind is DiskErrorKind.FULL
    disk.create("a", 4095)  # replacing a file needs no additional space


def test_flushes_and_written_bytes_are_counted_across_power_cuts() -> None:
    disk = make()
    assert (disk.backend.device_bytes_written, disk.backend.flushes) == (2 * SIZE, 1)
    again = disk.backend.cut_power()
    assert (again.backend.device_bytes_written, again.backend.flushes) == (2 * SIZE, 1)
