"""The cost of storing a record, compared with the minimum: `python -m bench.box.spool [--json]`.

* Throughput of the spool compared with pwrite and fdatasync of the same records on a bare zero-filled file. Both
  write to the same directory, alternately within one run, and medians are compared, because flush times drift. The
  relevant figure for the box is the one for two threads, as in `agents.box.buffer`: one prepares the next group (the
  spool's `prepare_group`; for the bare file, joining the records) while the other writes and flushes.
* Bytes written to the device per byte of payload, in a steady state with acknowledgements and recycling.
* SQLite (WAL, synchronous=FULL) and the PyPI package persist-queue for comparison.

Device bytes are counted on a loop device with its own ext4 when run as root; otherwise they are the kernel's count of
bytes that this process caused to be written, which omits the journal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any

import persistqueue

from agents.spool import PreparedGroup, Priority, Spool, SpoolGap, SpoolLimits
from bench.figures import Figure, figure, run
from hal.linux.disk import LinuxDisk

RECORD_BYTES = 512
LIMITS = SpoolLimits(spool_bytes_max=64 * 1024 * 1024)
BLOCK = 20
"""The number of groups that a contender writes in one turn."""


def _gap(gap: SpoolGap) -> bytes:
    return repr(gap).encode()


class Bare:
    """The minimum: a preallocated file without framing, checksums or recovery."""

    def __init__(self, directory: Path) -> None:
        self._disk = LinuxDisk(directory / "bare")
        self._disk.create("bare", LIMITS.segment_bytes)
        self._fd = os.open(directory / "bare" / "bare", os.O_RDWR)
        self._offset = 0

    def write(self, payloads: Sequence[bytes]) -> None:
        self.write_prepared(self.prepare(payloads))

    def prepare(self, payloads: Sequence[bytes]) -> bytes:
        return b"".join(payloads)

    def write_prepared(self, data: bytes) -> None:
        if self._offset + len(data) > LIMITS.segment_bytes:
            self._offset = 0
        os.pwrite(self._fd, data, self._offset)
        os.fdatasync(self._fd)
        self._offset += len(data)

    def take(self, records: int) -> None:
        pass


class Spooled:
    """The box's spool."""

    def __init__(self, directory: Path) -> None:
        disk = LinuxDisk(directory / "spool")
        self._spool = Spool.open(disk, LIMITS, random=Random(1), encode_gap=_gap)
        self._after = 0

    def write(self, payloads: Sequence[bytes]) -> None:
        self.write_prepared(self.prepare(payloads))

    def prepare(self, payloads: Sequence[bytes]) -> PreparedGroup:
        priorities = bytes((Priority.ROUTINE,)) * len(payloads)
        return self._spool.prepare_group(self._spool.measure(priorities, payloads))

    def write_prepared(self, group: PreparedGroup) -> None:
        self._spool.append_prepared(group)

    def take(self, records: int) -> None:
        records_read = self._spool.read(Priority.ROUTINE, records, 1 << 30, self._after)
        if records_read:
            self._after = records_read[-1][0]
            self._spool.ack(Priority.ROUTINE, self._after)


class Sqlite:
    """SQLite as a queue, with WAL and synchronous=FULL."""

    def __init__(self, directory: Path) -> None:
        self._db = sqlite3.connect(directory / "queue.sqlite", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.execute("CREATE TABLE queue (seq INTEGER PRIMARY KEY, payload BLOB)")
        self._acked = 0

    def write(self, payloads: Sequence[bytes]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO queue (payload) VALUES (?)", [(p,) for p in payloads])
        self._db.execute("COMMIT")

    def take(self, records: int) -> None:
        self._db.execute("SELECT payload FROM queue ORDER BY seq LIMIT ?", (records,)).fetchall()
        self._acked += records
        self._db.execute("DELETE FROM queue WHERE seq <= ?", (self._acked,))


class PersistQueue:
    """persist-queue 1.1, which is not durable: it syncs full chunks of 100 items, and never its index."""

    def __init__(self, directory: Path) -> None:
        self._queue = persistqueue.Queue(str(directory / "persist-queue"), tempdir=str(directory))

    def write(self, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            self._queue.put(payload)

    def take(self, records: int) -> None:
        for _ in range(records):
            self._queue.get()
        self._queue.task_done()


def throughput(makers: dict[str, Any], directory: Path, group: int, groups: int) -> dict[str, float]:
    """Return the median seconds per group of each contender, measured in turns on one thread."""
    payloads = [os.urandom(RECORD_BYTES) for _ in range(group)]
    with make_contenders(makers, directory) as contenders:
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(groups):
            for name, contender in contenders.items():
                start = time.perf_counter()
                contender.write(payloads)
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def pipelined(makers: dict[str, Any], directory: Path, group: int, groups: int) -> dict[str, float]:
    """Return the median seconds from one durable group to the next, while another thread prepares the next one."""
    payloads = [os.urandom(RECORD_BYTES) for _ in range(group)]
    with make_contenders(makers, directory) as contenders, ThreadPoolExecutor(1) as loop:
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(groups // BLOCK):
            for name, contender in contenders.items():
                requested: SimpleQueue[bool] = SimpleQueue()
                ready: SimpleQueue[Any] = SimpleQueue()
                producer = loop.submit(produce, contender, payloads, requested, ready)
                requested.put(True)
                prepared, last = ready.get(), time.perf_counter()
                try:
                    for _ in range(BLOCK):
                        requested.put(True)
                        contender.write_prepared(prepared)
                        prepared, now = ready.get(), time.perf_counter()
                        times[name].append(now - last)
                        last = now
                finally:
                    requested.put(False)
                producer.result()
    return {name: statistics.median(taken) for name, taken in times.items()}


def produce(
    contender: Any, payloads: Sequence[bytes], requested: SimpleQueue[bool], ready: SimpleQueue[Any]
) -> None:
    """Prepare a group whenever one is requested, as the thread of the event loop does."""
    while requested.get():
        ready.put(contender.prepare(payloads))


@contextlib.contextmanager
def make_contenders(makers: dict[str, Any], directory: Path) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        contenders = {}
        for number, (name, make) in enumerate(makers.items()):
            (subdirectory := Path(folder) / str(number)).mkdir()
            contenders[name] = make(subdirectory)
        yield contenders


def own_write_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def loop_write_bytes(device: str) -> int:
    return int(Path(f"/sys/block/{Path(device).name}/stat").read_text().split()[6]) * 512


@contextlib.contextmanager
def ext4(directory: Path) -> Iterator[tuple[Path, Callable[[], int]]]:
    """Mount a new ext4 on a loop device. Yield its mount point and a function that counts the bytes written to it."""
    image, mount = directory / "ext4.img", directory / "mnt"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(512 * 1024 * 1024)
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image], check=True
    )
    run = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    device = run.stdout.strip()
    try:
        subprocess.run(["mount", device, mount], check=True)
        try:
            yield mount, lambda: loop_write_bytes(device)
        finally:
            subprocess.run(["umount", "--lazy", mount], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextlib.contextmanager
def plain_directory(directory: Path) -> Iterator[tuple[Path, Callable[[], int]]]:
    yield directory, own_write_bytes


def device_bytes(make: Callable[[Path], Any], group: int, megabytes: int, directory: Path) -> float:
    """Return the device bytes per payload byte, after a warm-up until segments are recycled."""
    file_system = ext4 if os.geteuid() == 0 and shutil.which("mkfs.ext4") else plain_directory
    payloads = [os.urandom(RECORD_BYTES) for _ in range(group)]
    groups = megabytes * 1024 * 1024 // (RECORD_BYTES * group)
    with file_system(directory) as (mount, written):
        contender = make(mount)
        for turn in range(3 * groups):
            if turn == groups:
                os.sync()
                before = written()
            contender.write(payloads)
            if turn % 4 == 3:
                contender.take(4 * group)
        os.sync()
        total = written() - before
        del contender
    return total / (2 * groups * group * RECORD_BYTES)


def figures() -> list[Figure]:
    """Return all figures. A temporary folder below `build` is used, which should be on the disk of interest."""
    directory, groups = Path("build/bench-buffer"), 3000
    measured_figures: list[Figure] = []
    directory.mkdir(parents=True, exist_ok=True)
    for group, goal_pipelined, goal_alone in ((64, ">= 0.9", ">= 0.95"), (1, ">= 0.95", "")):
        contenders = {"bare": Bare, "spool": Spooled}
        for threads, measure, goal in (
            ("two threads", pipelined, goal_pipelined),
            ("one thread", throughput, goal_alone),
        ):
            medians = measure(contenders, directory, group, groups)
            description = f"group of {group}, {threads}"
            measured_figures.append(
                figure(f"bare write and flush, {description}", "µs", medians["bare"] * 1e6)
            )
            ratio = medians["bare"] / medians["spool"]
            measured_figures.append(figure(f"spool, {description}", "of bare throughput", ratio, goal))
        others = {"bare": Bare, "sqlite": Sqlite, "persist-queue": PersistQueue}
        medians = throughput(others, directory, group, groups // 10)
        for name in ("sqlite", "persist-queue"):
            ratio = medians["bare"] / medians[name]
            measured_figures.append(figure(f"{name}, group of {group}", "of bare throughput", ratio))
    makers = {"spool": Spooled, "sqlite": Sqlite, "persist-queue": PersistQueue}
    for name, make in makers.items():
        with tempfile.TemporaryDirectory(dir=directory) as folder:
            measured = device_bytes(make, 64, 16 if name == "spool" else 4, Path(folder))
        goal = "<= 1.3" if name == "spool" else ""
        measured_figures.append(
            figure(f"{name} device bytes, group of 64", "bytes per payload byte", measured, goal)
        )
    shutil.rmtree(directory, ignore_errors=True)
    return measured_figures


if __name__ == "__main__":
    run(figures, __doc__)
