"""Recordings of the first start of a flashed disk, from which the disk after a power cut at any moment is made.

A `Life` of a disk lasts from one flash to the next. Each life is another box, with its own serial number and
certificates, so that remains of a former life on the disk are detected.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from agents.instrument.agent import InstrumentAgent
from datacenter.audit.boxes import AuditSearch, find_records
from datacenter.store import queries
from datacenter.store.store import Store
from imaging.kickstart.data import MIB
from sim.worlds.image.disk.recording import RecordedRequest, cut_during, recorded
from sim.worlds.image.flash import loop_device
from tests.support.eventually import eventually, poll_until
from tests.support.imaging.flash.torn_superblocks import (
    UnflushedSuperblock,
    superblocks,
    unflushed_superblocks,
)
from tests.support.imaging.signed_image import AUDIT_LINE, SignedImage
from tests.support.imaging.sites import write_site
from tests.support.imaging.starts.emulated import Machine
from tests.support.imaging.starts.first_report import (
    CABLES,
    datacenter,
    plug_in,
    prepare_datacenter,
    reporting,
    site_text,
    submit,
)
from tests.support.namespaces import own_network
from tests.support.paths import ROOT
from wire.messages import InstrumentReport

REPORTS: Final = 4
"""The number of reports that the data center stores in a recorded start, and of those that then wait in the spool."""
START_SECONDS_MAX: Final = 1500.0
"""Only prevents hanging; generous enough for a busy machine."""
LARGER_BYTES: Final = 256 * MIB
_POLL_SECONDS: Final = 0.1


class Stored(NamedTuple):
    """A report, with the time at which the box acknowledged it or the data center stored it, in ns since 1970."""

    run: int
    number: int
    at_ns: int


@dataclass(frozen=True)
class Life:
    """The time of a disk after one flash. `folder` has the certificates; the instrument's runs begin with `run`."""

    folder: Path
    serial: str
    run: int

    @property
    def records(self) -> Path:
        """The file with the reports that were acknowledged and those that were stored during the recorded start."""
        return self.folder / "reports.json"

    @property
    def recording(self) -> Path:
        """The recording of the first start."""
        return self.folder / "recording"

    @property
    def flashed(self) -> Path:
        """The disk as it was flashed."""
        return self.folder / "flashed.raw"


@dataclass(frozen=True)
class RecordedStart:
    """The first start in a life of the disk: its writes and flushes, and its reports."""

    life: Life
    requests: list[RecordedRequest]
    acknowledged: list[Stored]
    stored: list[Stored]

    @cached_property
    def unflushed_superblocks(self) -> list[list[UnflushedSuperblock]]:
        """For each request, the superblocks that are written but not flushed when the power is cut during it."""
        flashed = self.life.flashed
        return list(unflushed_superblocks(flashed, superblocks(flashed), self.requests))

    @property
    def flushes(self) -> list[int]:
        """The indices of the requests that are flushes."""
        return [index for index, each in enumerate(self.requests) if each.is_flush]

    def cut(self, index: int, disk: Path, half: int | None = None) -> None:
        """Write to `disk` what a power cut during request `index` leaves.

        With `half`, only the first (0) or second (1) sector of each unflushed superblock has reached the medium.
        """
        copy(self.life.flashed, disk)
        cut_during(disk, self.requests, index, Random(index))
        if half is not None:
            for superblock in self.unflushed_superblocks[index]:
                superblock.tear(disk, half)

    def time_of(self, index: int) -> int:
        """Return the time of request `index`, or of the recording's end after the last one, in ns since 1970."""
        if index < len(self.requests):
            return self.requests[index].at_ns
        return max(self.requests[-1].at_ns, self.acknowledged[-1].at_ns)


def new_disk(file: Path, image: SignedImage) -> Path:
    """Return an empty disk, larger than the image, so that the file system of its last partition can grow."""
    file.touch()
    os.truncate(file, image.image.stat().st_size + LARGER_BYTES)
    return file


def copy(disk: Path, to: Path) -> None:
    """Copy a disk; keep its holes."""
    subprocess.run(["cp", "--sparse=always", disk, to], check=True)


def flash(disk: Path, image: SignedImage, life: Life) -> None:
    """Write the image with the identity of this life to the disk by `rap flash write`."""
    prepare_datacenter(life.folder, life.serial)
    site = write_site(life.folder, site_text())
    with disk.open("r+b") as file, loop_device(file.fileno()) as device:
        arguments = [
            "write",
            image.image,
            device,
            "--key",
            image.key,
            "--serial",
            device.name,
            "--site",
            site,
        ]
        arguments += ["--box", life.serial, "--pki", life.folder, "--record", life.folder / "flash.json"]
        command = [sys.executable, "-m", "rap", "flash", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    copy(disk, life.flashed)


async def _nothing() -> None:
    pass


def record_start(life: Life, disk: Path, before_cut: Callable[[], Awaitable[object]] = _nothing) -> str:
    """Start the flashed `disk` for the first time, and cut the power when reports are stored and others wait.

    `before_cut` is called before the power is cut. Return the machine's console output.
    """
    with own_network():
        plug_in()
        with served(life, disk) as socket:
            machine = Machine(life.folder, socket, CABLES)
            try:
                acknowledged = asyncio.run(_reports(life, before_cut))
            except TimeoutError:
                raise AssertionError(
                    f"no report was stored; the box said:\n{machine.log()[-4000:]}"
                ) from None
            finally:
                machine.stop()
    stored = reports_stored(life.folder)
    life.records.write_text(json.dumps({"acknowledged": acknowledged, "stored": stored}))
    return machine.log()


def load(life: Life) -> RecordedStart:
    """Return the recorded start of this life."""
    reports = json.loads(life.records.read_text())
    acknowledged, stored = ([Stored(*each) for each in reports[name]] for name in ("acknowledged", "stored"))
    return RecordedStart(life, list(recorded(life.recording)), acknowledged, stored)


@contextmanager
def served(life: Life, disk: Path) -> Iterator[Path]:
    """Serve the disk by NBD from a process that records all writes and flushes; yield its socket."""
    life.recording.unlink(missing_ok=True)
    socket, control = life.folder / "disk.sock", life.folder / "disk-control.sock"
    arguments = [disk, socket, control, 1, life.recording]
    command = [sys.executable, "-m", "sim.worlds.image.disk.server", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        poll_until(control.exists)
        yield socket
    finally:
        process.kill()
        process.wait()
        for path in (socket, control):
            path.unlink(missing_ok=True)


async def _reports(life: Life, before_cut: Callable[[], Awaitable[object]]) -> list[Stored]:
    """Let the instrument report, at the end without a data center; return the reports that the box acknowledged."""
    times: list[int] = []

    def note(reports: list[InstrumentReport]) -> None:
        times.extend([time.time_ns()] * len(reports))

    async with (
        asyncio.timeout(START_SECONDS_MAX),
        reporting(life.folder, life.serial, life.run, note) as agent,
    ):
        async with datacenter(life.folder):
            await _report(agent)
            await eventually(lambda: _has_arrived(life.folder), None, every_s=_POLL_SECONDS)
        await _report(agent)
        await before_cut()
    return [Stored(life.run, number, at_ns) for number, at_ns in enumerate(times, 1)]


def _has_arrived(folder: Path) -> bool:
    """Return whether the data center has the reports and the expected line of the system's audit log."""
    return len(reports_stored(folder)) == REPORTS and AUDIT_LINE in audit_lines(folder)


def audit_lines(folder: Path) -> list[str]:
    """Return the lines of the system's audit log in the data center's database."""
    store = Store(f"sqlite:///{folder}/reports.db")
    try:
        return [record.text for record in find_records(store, AuditSearch(kind="line"))]
    finally:
        store.close()


async def _report(agent: InstrumentAgent) -> None:
    """Send `REPORTS` reports, each after the acknowledgement of the previous one."""
    for _ in range(REPORTS):
        submit(agent)
        await eventually(lambda: not agent.waiting, None, every_s=_POLL_SECONDS)


def reports_stored(folder: Path) -> list[Stored]:
    """Return the instrument's reports in the data center's database."""
    store = Store(f"sqlite:///{folder}/reports.db")
    try:
        return [
            Stored(each.run, each.number, each.stored_at_ms * 1_000_000)
            for each in queries.records(store)
            if each.number is not None
        ]
    finally:
        store.close()
