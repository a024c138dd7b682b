"""A disk in memory that can lose power, tear, rot, fill and fail.

The **media** outlives the machine: it is what the platters hold. An `EmulDisk` is one incarnation of the
machine's access to it, from power-on to power cut; afterwards each of its calls raises GONE, so that a
program's `finally` blocks cannot reach the next incarnation's data.

Writes go straight into the media's bytes, and what they replaced goes on the file's undo list until a flush
has made them durable. A power cut walks those lists backwards and gives each 512-byte sector its old content
with probability one half, which is every outcome a real disk with a volatile cache may leave: sectors old or
new, in any order. A flush whose latency has not passed when the power goes is torn like the rest of them.

A **failed** flush is the nasty case (Linux, 2018, "fsyncgate"): the cache calls its pages clean, reads show
the new bytes, yet the media may hold the old ones. Such sectors are kept in the file's `doubtful` and come
out wrong at the next power cut unless they have been written and flushed again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from random import Random
from typing import NoReturn, TypeVar

from hal.disk import DiskError, DiskErrorKind

_T = TypeVar("_T")

SECTOR_BYTES = 512
_GROW_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9.-]{1,64}")


class _File:
    """One file on the media. `data` may be shorter than `size`: the rest has never been written (zeros)."""

    __slots__ = ("data", "doubtful", "size", "undo", "unreadable")

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray()
        self.undo: list[tuple[int, bytearray]] = []  # (offset, what was there), oldest first
        self.doubtful: dict[int, bytearray] = {}  # sector number → what the media may really hold
        self.unreadable: set[int] = set()  # sector numbers

    def reach(self, end: int) -> None:
        missing = end - len(self.data)
        if missing > 0:
            self.data.extend(bytes(min(self.size - len(self.data), max(missing, _GROW_BYTES))))

    def pieces(self, undo: list[tuple[int, bytearray]]) -> list[tuple[int, int, bytearray]]:
        """The undo list cut at sector bounds, newest write first: (sector, offset, old bytes)."""
        pieces = []
        for offset, old in reversed(undo):
            start, end = offset, offset + len(old)
            while start < end:
                sector = start // SECTOR_BYTES
                stop = min(end, (sector + 1) * SECTOR_BYTES)
                pieces.append((sector, start, old[start - offset : stop - offset]))
                start = stop
        return pieces

    def sector(self, number: int) -> bytearray:
        """A copy of one sector; shorter than 512 bytes at the end of the file."""
        return self.data[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]

    def tear(self, undo: list[tuple[int, bytearray]], random: Random) -> None:
        for _, start, old in self.pieces(undo):
            if random.getrandbits(1):
                self.data[start : start + len(old)] = old


class _Flushing:
    """A flush, reported as done at `done_ns`. A power cut before `durable_ns` undoes some of `undo`."""

    __slots__ = ("done_ns", "durable_ns", "file", "undo")

    def __init__(self, done_ns: int, durable_ns: int, file: _File, undo: list[tuple[int, bytearray]]) -> None:
        self.done_ns, self.durable_ns, self.file, self.undo = done_ns, durable_ns, file, undo


class _Media:
    """What survives a power cut."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.is_read_only = False
        self.files: dict[str, _File] = {}

    def used_bytes(self) -> int:
        return sum(file.size for file in self.files.values())


class EmulDiskBackend:
    """What the world does to a disk. For the simulator and for tests."""

    def __init__(self, disk: EmulDisk) -> None:
        self._disk = disk
        self.on_power_lost: Callable[[], object] | None = None
        """Called when the power goes in the middle of an operation (`cut_power_at`)."""

    def cut_power(self) -> EmulDisk:
        """Cut the power now and start again: the result is the same media as the next incarnation sees it."""
        self._disk._cut()
        return self.reboot()

    def reboot(self) -> EmulDisk:
        """The next incarnation over the media of a disk that has lost power (`cut_power`, `cut_power_at`)."""
        old = self._disk
        assert old._dead, "the disk still has power"
        return EmulDisk._over(old._media, old)

    def cut_power_at(self, operation: int) -> None:
        """Cut the power inside the `operation`-th coming create, write, flush, rename or remove (1 = next).

        That call raises GONE. What it was doing is undone, done or torn, as if the power went half-way.
        """
        assert operation >= 1
        self._disk._countdown = operation
        self._disk._guarded = True

    @property
    def operations_until_cut(self) -> int:
        """How many operations are left until the power goes (`cut_power_at`); 0 if that is not to happen."""
        return self._disk._countdown

    @property
    def used_bytes(self) -> int:
        """What the files on it take."""
        return self._disk._media.used_bytes()

    @property
    def has_power(self) -> bool:
        """False once the power has been cut."""
        return not self._disk._dead

    @property
    def device_bytes_written(self) -> int:
        """Bytes written since the first power-on, zero-filling included."""
        return self._disk.bytes_written

    @property
    def flushes(self) -> int:
        """Successful flushes since the first power-on."""
        return self._disk.flushes

    def set_latency(self, flush_ns: int = 0, written_byte_ns: float = 0.0) -> None:
        """From now on a flush takes `flush_ns` and each byte it makes durable `written_byte_ns` more."""
        self._disk.flush_ns, self._disk.written_byte_ns = flush_ns, written_byte_ns

    def hold_flushed(self, ns: int) -> None:
        """From now on keep what is flushed in a volatile cache for so long, though flushes are reported as done.

        With 0, the next flush makes all of it durable, as it empties the whole cache of a real disk.
        """
        self._disk.held_ns = ns

    def write_back(self) -> None:
        """Make everything durable whose flush was reported as done, as a disk does that is given the time."""
        for flushing in self._disk._settling:
            if flushing.done_ns <= self._disk._now_ns():
                flushing.durable_ns = 0

    def set_capacity(self, capacity_bytes: int) -> None:
        """Change the room there is. What exists stays, even beyond it."""
        self._disk._media.capacity_bytes = capacity_bytes

    def fill(self) -> None:
        """Leave no room for a new file, as if something else had taken it."""
        self.set_capacity(self._disk._media.used_bytes())

    def free_bytes(self) -> int:
        """Room for new files, in bytes; never negative."""
        return max(0, self._disk._media.capacity_bytes - self._disk._media.used_bytes())

    def set_read_only(self, is_read_only: bool) -> None:
        """From now on refuse every change with IO, as a file system that is mounted read-only; or no more."""
        self._disk._media.is_read_only = is_read_only

    def fail_next_flush(self, times: int = 1) -> None:
        """`times` more flushes raise IO; afterwards each sector's durability is anybody's guess."""
        self._disk._failing_flushes += times
        self._disk._guarded = True

    def fail_next_write(self, times: int = 1) -> None:
        """`times` more writes raise IO and change nothing."""
        self._disk._failing_writes += times
        self._disk._guarded = True

    def let_writes_succeed(self) -> None:
        """No write fails any more."""
        self._disk._failing_writes = 0

    def rot(
        self, name: str | None = None, offset: int | None = None, bits: int = 1
    ) -> tuple[str, int] | None:
        """Flip `bits` bits (all, if there are fewer) of a sector that holds data, of `name`, at `offset`, or any.

        Returns the name and the sector's offset; None if there is no such sector.
        """
        random, files = self._disk._random, self._disk._media.files
        if name is None:
            name = _any([n for n, file in sorted(files.items()) if any(file.data)], random)
        if name is None:
            return None
        data = files[name].data
        if offset is None:
            starts = range(0, len(data), SECTOR_BYTES)
            offset = _any([at for at in starts if any(data[at : at + SECTOR_BYTES])], random)
        if offset is None:
            return None
        start = offset - offset % SECTOR_BYTES
        files[name].reach(start + SECTOR_BYTES)
        there = min(SECTOR_BYTES, files[name].size - start) * 8
        for bit in random.sample(range(there), min(bits, there)):
            data[start + bit // 8] ^= 1 << bit % 8
        return name, start

    def make_unreadable(self, name: str, offset: int) -> None:
        """Reading the sector at `offset` raises IO until something is written there."""
        self._disk._media.files[name].unreadable.add(offset // SECTOR_BYTES)


def _any(choices: list[_T], random: Random) -> _T | None:
    return random.choice(choices) if choices else None


class EmulDisk:
    """`hal.disk.Disk` in memory; the back door is `backend`.

    `random` decides what tears and rots; `now_ns` is the clock that flush latency is measured by, and
    `spend(ns)` is told how long each call would have taken.
    """

    def __init__(
        self,
        capacity_bytes: int,
        random: Random,
        *,
        now_ns: Callable[[], int] = lambda: 0,
        spend: Callable[[int], None] | None = None,
    ) -> None:
        self._random, self._now_ns, self._spend = random, now_ns, spend
        self._power_on(_Media(capacity_bytes))
        self.flush_ns, self.written_byte_ns, self.held_ns = 0, 0.0, 0
        self.bytes_written, self.flushes = 0, 0

    @classmethod
    def _over(cls, media: _Media, old: EmulDisk) -> EmulDisk:
        new = cls(0, old._random, now_ns=old._now_ns, spend=old._spend)
        new._power_on(media)
        new.flush_ns, new.written_byte_ns, new.held_ns = old.flush_ns, old.written_byte_ns, old.held_ns
        new.bytes_written, new.flushes = old.bytes_written, old.flushes
        return new

    def _power_on(self, media: _Media) -> None:
        self._media, self._files = media, media.files
        self._settling: deque[_Flushing] = deque()
        self._dead, self._guarded = False, False  # guarded: something but plain work may lie ahead
        self._countdown = self._failing_flushes = self._failing_writes = 0
        self.backend = EmulDiskBackend(self)

    # -- the trait --------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """See `Disk.names`."""
        self._alive()
        return sorted(self._files)

    def size(self, name: str) -> int:
        """See `Disk.size`."""
        return self._file(name).size

    def create(self, name: str, size: int) -> None:
        """See `Disk.create`."""
        assert _NAME.fullmatch(name) and size >= 0, (name, size)
        self._refuse_if_read_only(name)
        last = self._begin()
        replaced = self._files[name].size if name in self._files else 0
        if self._media.used_bytes() - replaced + size > self._media.capacity_bytes:
            raise DiskError(DiskErrorKind.FULL, f"no room for {size} bytes")
        if not last or self._random.getrandbits(1):
            self._files[name] = _File(size)
        self._end(last)
        self.bytes_written += size
        self._take(self.flush_ns + int(size * self.written_byte_ns))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Disk.read`."""
        file = self._file(name)
        end = offset + length
        assert 0 <= offset <= end <= file.size, (name, offset, length)
        if file.unreadable:
            sectors = range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES))
            if not file.unreadable.isdisjoint(sectors):
                raise DiskError(DiskErrorKind.IO, f"{name}: unreadable sector")
        return bytes(file.data[offset:end]).ljust(length, b"\0")

    def write(self, name: str, offset: int, data: bytes) -> None:
        """See `Disk.write`."""
        if self._media.is_read_only:
            self._refuse_if_read_only(name)
        last = self._begin() if self._guarded else False
        if self._failing_writes:
            self._failing_writes -= 1
            raise DiskError(DiskErrorKind.IO, f"{name}: write failed")
        file = self._files.get(name) or self._file(name)
        end = offset + len(data)
        assert 0 <= offset <= end <= file.size, (name, offset, len(data))
        if end > len(file.data):
            file.reach(end)
        file.undo.append((offset, file.data[offset:end]))
        file.data[offset:end] = data
        if file.unreadable:
            file.unreadable.difference_update(range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)))
        self.bytes_written += len(data)
        if last:
            self._end(last)

    def flush(self, name: str) -> None:
        """See `Disk.flush`."""
        last = self._begin() if self._guarded else False
        file = self._files.get(name) or self._file(name)
        if last:
            self._end(last)
        if self._failing_flushes:
            self._fail_flush(name, file)
        undo = file.undo
        if file.doubtful:
            for sector, _, _ in file.pieces(undo):
                file.doubtful.pop(sector, None)
        self.flushes += 1
        if not self.flush_ns and not self.written_byte_ns and not self.held_ns and not self._settling:
            undo.clear()
            return
        took = self.flush_ns + int(sum(len(old) for _, old in undo) * self.written_byte_ns)
        self._settle()
        done_ns = self._now_ns() + took
        durable_ns = done_ns + self.held_ns
        for flushing in reversed(self._settling):  # what was held back is made durable with this
            if flushing.durable_ns <= durable_ns:
                break
            flushing.durable_ns = durable_ns
        self._settling.append(_Flushing(done_ns, durable_ns, file, undo))
        file.undo = []
        self._take(took)

    def commit(self, name: str, offset: int, data: bytes) -> None:
        """See `Disk.commit`. A write and a flush, and the power can go in either."""
        self.write(name, offset, data)
        self.flush(name)

    def rename(self, name: str, new_name: str) -> None:
        """See `Disk.rename`."""
        assert _NAME.fullmatch(new_name), new_name
        self._refuse_if_read_only(name)
        last = self._begin()
        self._file(name)
        if not last or self._random.getrandbits(1):
            self._files[new_name] = self._files.pop(name)
        self._end(last)
        self._take(self.flush_ns)

    def remove(self, name: str) -> None:
        """See `Disk.remove`."""
        self._refuse_if_read_only(name)
        last = self._begin()
        self._file(name)
        if not last or self._random.getrandbits(1):
            del self._files[name]
        self._end(last)
        self._take(self.flush_ns)

    # -- power ------------------------------------------------------------------------------------------

    def _alive(self) -> None:
        if self._dead:
            raise DiskError(DiskErrorKind.GONE, "the disk has lost power")

    def _refuse_if_read_only(self, name: str) -> None:
        self._alive()
        if self._media.is_read_only:
            raise DiskError(DiskErrorKind.IO, f"{name}: read-only file system")

    def _file(self, name: str) -> _File:
        self._alive()
        file = self._files.get(name)
        if file is None:
            raise DiskError(DiskErrorKind.MISSING, f"there is no file {name!r}")
        return file

    def _begin(self) -> bool:
        """Count one device operation; True when the power goes during it."""
        self._alive()
        last = self._countdown == 1
        self._countdown -= self._countdown > 0
        self._guarded = bool(self._countdown or self._failing_flushes or self._failing_writes)
        return last

    def _end(self, last: bool) -> None:
        if last:
            self._cut()
            if self.backend.on_power_lost is not None:
                self.backend.on_power_lost()
            self._alive()

    def _cut(self) -> None:
        self._dead = self._guarded = True
        self._settle()
        for file in self._files.values():
            file.tear(file.undo, self._random)
            file.undo = []
        for flushing in reversed(self._settling):
            flushing.file.tear(flushing.undo, self._random)
        self._settling.clear()
        for file in self._files.values():
            for sector, old in file.doubtful.items():
                file.data[sector * SECTOR_BYTES : sector * SECTOR_BYTES + len(old)] = old
            file.doubtful = {}

    def _settle(self) -> None:
        now = self._now_ns()
        while self._settling and self._settling[0].durable_ns <= now:
            self._settling.popleft()

    def _fail_flush(self, name: str, file: _File) -> NoReturn:
        self._failing_flushes -= 1
        lost: dict[int, bytearray | None] = {}
        for sector, start, old in file.pieces(file.undo):
            if sector not in lost:
                lost[sector] = file.sector(sector) if self._random.getrandbits(1) else None
            media = lost[sector]
            if media is not None:
                at = start - sector * SECTOR_BYTES
                media[at : at + len(old)] = old
        for sector, media in lost.items():
            if media is None:
                file.doubtful.pop(sector, None)
            else:
                file.doubtful.setdefault(sector, media)
        file.undo = []
        raise DiskError(DiskErrorKind.IO, f"{name}: flush failed")

    def _take(self, ns: int) -> None:
        if ns and self._spend is not None:
            self._spend(ns)
