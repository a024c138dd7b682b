"""Disks as a power cut left them: starts of a box from them, with checks of its reports and of the disk."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from hal.linux.disk import LinuxDisk
from imaging.flash import gpt
from imaging.flash.identifiers import SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET
from imaging.kickstart.data import MIB
from imaging.rpm.contents import RECIPE
from settings import identity_archive, slots
from sim.worlds.image.box import STATE_PARTITION
from sim.worlds.shared.site.box import read_disk
from tests.support.eventually import eventually
from tests.support.imaging.flash.images import loop_device
from tests.support.imaging.starts.emulated import Machine
from tests.support.imaging.starts.first_report import (
    CABLES,
    datacenter,
    plug_in,
    reporting,
    submit,
    write_datacenter,
)
from tests.support.imaging.starts.recorded_start import (
    START_SECONDS_MAX,
    Life,
    RecordedStart,
    Stored,
    reports_stored,
)
from tests.support.namespaces import own_network
from wire.messages import Entry, InstrumentReport, decode

_POLL_SECONDS: Final = 0.2
_CONSOLE_BYTES: Final = 3000
_LATE_SECONDS_MAX: Final = 60.0
"""Time limit for older reports after the first new report is stored; the box sends them before it."""
_EXT4: Final = ("boot", "root-a", "home", "tmp", "var", "log", "audit", "vartmp", "rap")
"""The labels of the file systems that the box mounts."""
_STAMP: Final = "provisioned"
_SPOOL_BYTES_MAX: Final = 1 << 30
"""More than a box of these tests ever stores."""
_STALLS: Final = ("rcu_preempt detected stalls", "soft lockup", "is taking a long time")
"""Kernel messages when the guest's processors stall because this machine is overloaded; units then time out."""
_STARTS_MAX: Final = 3


class Started(NamedTuple):
    """The result of a start: the stored reports, the instrument's run at the end, and the last console output."""

    reports: list[Stored]
    run: int
    console: str


def check_start(
    recorded: RecordedStart, index: int, disk: Path, half: int | None = None, former: Life | None = None
) -> list[str]:
    """Make the disk of a power cut during request `index`, start from it, and return the problems.

    `half`: see `RecordedStart.cut`. A failing start during which the guest stalled is repeated from the same disk.
    """
    for _ in range(_STARTS_MAX):
        recorded.cut(index, disk, half)
        problems = _check(recorded, index, disk, former)
        if not problems or not any(stall in problems[-1] for stall in _STALLS):
            break
    return problems


def check_disk(recorded: RecordedStart, index: int, disk: Path, half: int | None = None) -> list[str]:
    """As `check_start`, without a start: repair the file systems as the initramfs does, and return the problems."""
    recorded.cut(index, disk, half)
    slices = _slices(disk)
    problems: list[str] = []
    for label in _EXT4:
        extent = ("--offset", str(slices[label].offset), "--sizelimit", str(slices[label].length))
        with loop_device(disk, 0, *extent) as device:
            subprocess.run(
                ["sh", RECIPE / "root/usr/libexec/rap/repair-superblock", device, "0:0"], check=True
            )
            done = subprocess.run(["e2fsck", "-a", device], capture_output=True, text=True, check=False)
        if done.returncode > 1:
            return [f"{label}: e2fsck cannot correct the file system: {done.stdout[-500:]}"]
        problems += _errors(disk, slices[label])
    if lost := owed(recorded, index) - _in_spool(disk, slices[STATE_PARTITION]):
        problems.append(f"acknowledged reports were lost: {sorted(lost)}")
    return problems


def _in_spool(disk: Path, state: gpt.Slice) -> set[tuple[int, int]]:
    """Return the (run, number) of the reports in the spool."""
    with mounted(disk, state) as mount_point:
        spool = LinuxDisk(mount_point / "spool")
        try:
            records = read_disk(spool, _SPOOL_BYTES_MAX, Random(0)).records
        finally:
            spool.close()
    entries = (decode(Entry, payload) for _, payload in records)
    return {(entry.run, entry.body.number) for entry in entries if isinstance(entry.body, InstrumentReport)}


def _check(recorded: RecordedStart, index: int, disk: Path, former: Life | None) -> list[str]:
    expected = owed(recorded, index)
    folder = disk.with_suffix(".run")
    shutil.copytree(recorded.life.folder, folder, ignore=_all_except_certificates)
    write_datacenter(folder, recorded.life.serial)
    run = recorded.life.run + 1
    try:
        started = _start(folder, recorded.life.serial, run, disk, expected)
        problems = [*wrong_reports(started, run, recorded.life.run, expected), *inspect(disk, former)]
        return [*problems, *([f"console: {started.console}"] if problems else [])]
    finally:
        shutil.rmtree(folder)


def _all_except_certificates(_folder: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if not name.endswith((".crt", ".key"))]


def _start(folder: Path, serial: str, run: int, disk: Path, expected: set[tuple[int, int]]) -> Started:
    with own_network():
        plug_in()
        machine = Machine(folder, disk, CABLES, keep=True)
        try:
            last_run = asyncio.run(_first_report(folder, serial, run, expected))
        except TimeoutError:
            last_run = run
        finally:
            machine.stop()
    return Started(reports_stored(folder), last_run, _end_of(machine.log()))


def _end_of(console: str) -> str:
    """Return the end of a console's output, after earlier lines that show a stall."""
    stalls = [
        line for line in console[:-_CONSOLE_BYTES].splitlines() if any(stall in line for stall in _STALLS)
    ]
    return "\n".join([*stalls, console[-_CONSOLE_BYTES:]])


async def _first_report(folder: Path, serial: str, run: int, expected: set[tuple[int, int]]) -> int:
    """Wait until a new report and the expected ones are stored; return the run of the instrument at the end.

    Missing expected reports are no error. Raises: TimeoutError, if the new report is not stored.
    """

    def stored() -> set[tuple[int, int]]:
        return {(each.run, each.number) for each in reports_stored(folder)}

    async with datacenter(folder), reporting(folder, serial, run) as agent:
        submit(agent)
        await eventually(lambda: (agent.run_number, 1) in stored(), START_SECONDS_MAX, every_s=_POLL_SECONDS)
        with suppress(TimeoutError):  # `wrong_reports` names the lost ones
            await eventually(lambda: expected <= stored(), _LATE_SECONDS_MAX, every_s=_POLL_SECONDS)
        return agent.run_number


def owed(recorded: RecordedStart, index: int) -> set[tuple[int, int]]:
    """Return the (run, number) of the reports that a cut during request `index` finds acknowledged but not stored."""
    at_ns = recorded.time_of(index)
    acknowledged, stored = (
        {(each.run, each.number) for each in reports if each.at_ns <= at_ns}
        for reports in (recorded.acknowledged, recorded.stored)
    )
    return acknowledged - stored


def wrong_reports(
    started: Started, run: int, run_before: int, expected: set[tuple[int, int]]
) -> Iterator[str]:
    """Yield the problems of the reports that were stored after a start, which the instrument began with `run`."""
    stored = [(each.run, each.number) for each in started.reports]
    if (started.run, 1) not in stored:
        yield "no report was stored after the start"
    elif lost := expected - set(stored):
        yield f"acknowledged reports were lost: {sorted(lost)}"
    if started.run != run:
        yield f"the box knew a run {started.run - 1} of the instrument"
    if foreign := {each for each in stored if each[0] not in (run_before, started.run)}:
        yield f"reports of a former life were stored: {sorted(foreign)}"
    if len(stored) != len(set(stored)):
        yield f"reports were stored twice: {stored}"


def _slices(disk: Path) -> dict[str, gpt.Slice]:
    """Return the partitions by label."""
    with disk.open("rb") as file:
        return {part.label: part for part in gpt.slices(file.read(MIB))}


def inspect(disk: Path, former: Life | None = None) -> Iterator[str]:
    """Yield the problems on the disk of a box that has started."""
    slices = _slices(disk)
    area = slices[identity_archive.LABEL]
    with disk.open("rb") as file:
        file.seek(area.offset)
        if any(file.read(area.length)):
            yield "the partition of the identity is not empty"
    for label in _EXT4:
        try:
            with mounted(disk, slices[label]) as mount_point:
                if former:
                    yield from _remnants(mount_point, label, former)
                if label == STATE_PARTITION and not (mount_point / _STAMP).exists():
                    yield "provisioning has not been completed"
        except subprocess.CalledProcessError:
            yield f"{label}: the file system cannot be mounted"
        yield from _errors(disk, slices[label])
    state = slices[STATE_PARTITION]
    if (has := file_system_bytes(disk, state)) < state.length - MIB:
        yield f"the file system of {state.label} has {has:,} of the partition's {state.length:,} bytes"


@contextmanager
def mounted(disk: Path, part: gpt.Slice) -> Iterator[Path]:
    """Mount a partition, read-only if it is a slot; mounting replays its journal."""
    mount_point = disk.with_suffix(f".{part.label}")
    mount_point.mkdir()
    options = f"loop,offset={part.offset},sizelimit={part.length}"
    options += ",ro" if part.label in slots.PARTITIONS.values() else ""
    mount = ["mount", "-o", options, str(disk), str(mount_point)]
    subprocess.run(["flock", "/dev/loop-control", *mount], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", mount_point], check=True)
        mount_point.rmdir()


def slot_sha256(disk: Path, label: str = slots.PARTITIONS["a"]) -> str:
    """Return the SHA-256 of the file system of a slot."""
    part = _slices(disk)[label]
    with disk.open("rb") as file:
        file.seek(part.offset)
        return hashlib.sha256(file.read(file_system_bytes(disk, part))).hexdigest()


def _remnants(mount_point: Path, label: str, former: Life) -> Iterator[str]:
    """Yield the files that name the box of the former life."""
    command = ["grep", "-rlaiF", "--devices=skip", former.serial, str(mount_point)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.stdout:
        yield f"{label}: files of a former life: {done.stdout.split()}"


def file_system_bytes(disk: Path, part: gpt.Slice) -> int:
    """Return the size of an unmounted ext4 according to its superblock."""
    with disk.open("rb") as file:
        file.seek(part.offset + SUPERBLOCK_OFFSET)
        superblock = file.read(SUPERBLOCK_BYTES)
    blocks, scale = (int.from_bytes(superblock[at : at + 4], "little") for at in (0x04, 0x18))
    return blocks * (1024 << scale)


def _errors(disk: Path, part: gpt.Slice) -> Iterator[str]:
    command = ["e2fsck", "-fn", f"{disk}?offset={part.offset}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"{part.label}: the file system has errors: {done.stdout[-500:]}"
