"""Partition and machine, emulated and on Linux, pass the conformance suite; the emulated partition injects faults."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import get_args

import pytest

from hal.contract import MACHINE_CHECKS, PARTITION_CHECKS, MachineBench, PartitionBench
from hal.contract.partition import SIZE
from hal.disk import DiskError, DiskErrorKind
from hal.emul.disk import Moment
from hal.emul.machine import EmulMachine
from hal.emul.partition import EmulPartition
from hal.linux.machine import LinuxMachine
from hal.linux.partition import LinuxPartition
from hal.machine import Machine, MachineError
from hal.partition import SECTOR_BYTES, Partition
from settings.slots import PARTITIONS, Slot

MOMENTS: tuple[Moment, ...] = get_args(Moment)
OLD, NEW = b"o" * SECTOR_BYTES, b"n" * SECTOR_BYTES


class EmulPartitionBench:
    """`reopen` cuts the power."""

    def __init__(self, seed: int) -> None:
        self.partition = EmulPartition(SIZE, Random(seed))

    def reopen(self) -> Partition:
        return self.partition.backend.cut_power()


class LinuxPartitionBench:
    """`reopen` emulates a restart of the process: new descriptors read the device."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.partition = LinuxPartition(path)

    def reopen(self) -> Partition:
        self.partition.close()
        self.partition = LinuxPartition(self._path)
        return self.partition


each_check = pytest.mark.parametrize("check", PARTITION_CHECKS, ids=lambda check: check.__name__)


@pytest.mark.parametrize("seed", range(5))
@each_check
def test_emul_partition(check: Callable[[PartitionBench], None], seed: int) -> None:
    check(EmulPartitionBench(seed))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path := tmp_path / "partition").write_bytes(bytes(SIZE))
    return path


@each_check
def test_linux_partition(check: Callable[[PartitionBench], None], file: Path) -> None:
    bench = LinuxPartitionBench(file)
    check(bench)
    bench.partition.close()


@each_check
def test_linux_partition_without_direct_reads(
    check: Callable[[PartitionBench], None], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def without_direct(path: str, flags: int, *more: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags, *more)

    monkeypatch.setattr(os, "open", without_direct)
    bench = LinuxPartitionBench(file)
    check(bench)
    bench.partition.close()


@pytest.fixture
def loop_device(file: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root for a loop device")
    result = subprocess.run(
        ["losetup", "--find", "--show", file], capture_output=True, text=True, check=False
    )
    if result.returncode:
        pytest.skip("needs permission to create loop devices")
    yield Path(result.stdout.strip())
    subprocess.run(["losetup", "--detach", result.stdout.strip()], check=True)


def test_linux_partition_on_a_block_device(loop_device: Path) -> None:
    for check in PARTITION_CHECKS:
        bench = LinuxPartitionBench(loop_device)
        bench.partition.write(0, bytes(SIZE))
        check(bench)
        bench.partition.close()


def test_linux_partition_maps_kernel_errors_to_kinds(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partition = LinuxPartition(file)
    for code, kind in ((errno.EIO, DiskErrorKind.IO), (errno.ENXIO, DiskErrorKind.UNAVAILABLE)):

        def failing(fd: int, code: int = code) -> None:
            raise OSError(code, "reason")

        monkeypatch.setattr(os, "fdatasync", failing)
        with pytest.raises(DiskError, match=f"{file}: reason") as caught:
            partition.flush()
        assert caught.value.kind is kind
    partition.close()


def test_a_missing_linux_partition_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file") as caught:
        LinuxPartition(tmp_path / "root-a")
    assert caught.value.kind is DiskErrorKind.UNAVAILABLE


def kind(call: Callable[[], object]) -> DiskErrorKind | None:
    try:
        call()
    except DiskError as error:
        return error.kind
    return None


def after_cut(moment: Moment, seed: int) -> bytes:
    """Return the content after a write of two sectors during which the power is cut at this moment."""
    partition = EmulPartition(2 * SECTOR_BYTES, Random(seed), OLD * 2)
    partition.backend.cut_power_at(1, moment)
    assert kind(lambda: partition.write(0, NEW * 2)) is DiskErrorKind.UNAVAILABLE
    assert kind(lambda: partition.read(0, 1)) is DiskErrorKind.UNAVAILABLE
    return partition.backend.cut_power().read(0, 2 * SECTOR_BYTES)


@pytest.mark.parametrize("seed", range(8))
def test_power_cuts_before_inside_and_after_a_write(seed: int) -> None:
    content = {moment: after_cut(moment, seed) for moment in MOMENTS}
    assert content["before"] == OLD * 2 and content["after"] == NEW * 2
    assert content["inside"] in (OLD * 2, NEW + OLD, OLD + NEW, NEW * 2)


def test_power_cuts_before_and_after_a_flush() -> None:
    cases: tuple[tuple[Moment, set[bytes]], ...] = (("before", {OLD, NEW}), ("after", {NEW}))
    for moment, expected in cases:
        contents = set()
        for seed in range(16):
            partition = EmulPartition(SECTOR_BYTES, Random(seed), OLD)
            partition.write(0, NEW)
            partition.backend.cut_power_at(1, moment)
            assert kind(partition.flush) is DiskErrorKind.UNAVAILABLE
            contents.add(partition.backend.cut_power().read(0, SECTOR_BYTES))
        assert contents == expected


def test_a_device_without_atomic_sectors_tears_inside_them() -> None:
    partition = EmulPartition(SECTOR_BYTES, Random(1), OLD)
    partition.backend.tear_within_sectors(32)
    partition.backend.cut_power_at(1)
    assert kind(lambda: partition.write(0, NEW)) is DiskErrorKind.UNAVAILABLE
    torn = partition.backend.cut_power().read(0, SECTOR_BYTES)
    pieces = [torn[offset : offset + 32] for offset in range(0, SECTOR_BYTES, 32)]
    assert set(pieces) == {OLD[:32], NEW[:32]}


def test_a_partition_can_report_writes_that_it_drops() -> None:
    partition = EmulPartition(SECTOR_BYTES, Random(1), OLD)
    partition.backend.drop_next_write()
    partition.write(0, NEW)
    partition.flush()
    assert partition.read(0, SECTOR_BYTES) == OLD


def test_an_emulated_partition_injects_each_fault() -> None:
    partition = EmulPartition(4 * SECTOR_BYTES, Random(1), OLD * 4)
    faults = partition.backend
    faults.fail_next_write()
    assert kind(lambda: partition.write(0, NEW)) is DiskErrorKind.IO
    faults.fail_next_flush()
    assert kind(partition.flush) is DiskErrorKind.IO
    faults.fail_next_read()
    assert kind(lambda: partition.read(0, 1)) is DiskErrorKind.IO
    faults.flip_bits(512)
    assert sum((new ^ old).bit_count() for new, old in zip(partition.read(512, 512), OLD, strict=True)) == 1
    faults.make_unreadable(1024)
    assert kind(lambda: partition.read(1000, 100)) is DiskErrorKind.IO
    partition.write(1024, NEW)
    assert partition.read(1024, 512) == NEW


class EmulMachineBench:
    def __init__(self) -> None:
        self._restarts = 0
        self._switches: list[Slot] = []
        self._machine = EmulMachine("a")

    def started(self, slot: Slot | None) -> Machine:
        self._machine = EmulMachine(slot, self._restarted, on_switch=self._switches.append)
        return self._machine

    def _restarted(self) -> None:
        self._restarts += 1

    def restarts(self) -> int:
        return self._restarts

    def switches(self) -> Sequence[Slot]:
        return self._switches

    def refuse_restarts(self) -> None:
        self._machine.backend.restart_fails = self._machine.backend.switch_fails = True


class LinuxMachineBench:
    """A machine whose root file system's device is described in a folder with the structure of /sys."""

    def __init__(self, folder: Path) -> None:
        self._root, self._sysfs, self._run = folder / "root", folder / "sys", folder / "run"
        self._root.mkdir()
        (self._root / "program.py").touch()
        self._run.mkdir()
        self.left = folder / "left"
        number = self._root.stat().st_dev
        self.device = self._sysfs / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
        self.device.mkdir(parents=True)

    def started(self, slot: Slot | None) -> Machine:
        name = PARTITIONS[slot] if slot else "other"
        (self.device / "uevent").write_text(f"MAJOR=252\nDEVTYPE=partition\nPARTN=3\nPARTNAME={name}\n")
        return LinuxMachine(
            self._run / "restart",
            self._root,
            self._sysfs,
            switch_file=self._run / "application",
            left_file=self.left,
            program=self._root / "program.py",
        )

    def restarts(self) -> int:
        return int((self._run / "restart").exists())

    def switches(self) -> Sequence[Slot]:
        file = self._run / "application"
        return [slot for slot in PARTITIONS if file.exists() and file.read_text() == f"{slot}\n"]

    def refuse_restarts(self) -> None:
        self._run.rmdir()


each_machine_check = pytest.mark.parametrize("check", MACHINE_CHECKS, ids=lambda check: check.__name__)


@each_machine_check
def test_emul_machine(check: Callable[[MachineBench], None]) -> None:
    check(EmulMachineBench())


@each_machine_check
def test_linux_machine(check: Callable[[MachineBench], None], tmp_path: Path) -> None:
    check(LinuxMachineBench(tmp_path))


def test_linux_machine_follows_the_device_mapper(tmp_path: Path) -> None:
    bench = LinuxMachineBench(tmp_path)
    machine = bench.started(None)
    (bench.device / "uevent").write_text("MAJOR=253\nDEVTYPE=disk\n")
    below = bench.device / "slaves" / "vda4"
    below.mkdir(parents=True)
    (below / "uevent").write_text("PARTNAME=root-b\n")
    assert machine.running_slot() == "b"


def test_linux_machine_names_the_slot_whose_programs_were_rejected(tmp_path: Path) -> None:
    bench = LinuxMachineBench(tmp_path)
    for content, expected in (("b\n", "b"), ("c\n", None)):
        bench.left.write_text(content)
        assert bench.started("a").rejected_application() == expected


def test_linux_machine_names_the_partition_of_its_root_file_system(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="is on other; the slots are root-a and root-b"):
        LinuxMachineBench(tmp_path).started(None).running_slot()
