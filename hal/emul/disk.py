"""A disk in memory with emulated power cuts, torn writes, bit rot, lack of space and I/O errors.

The **media** (`_Media`) persists across power cuts. An `EmulDisk` is the machine's access to it between two power
cuts; after a power cut each call on it raises UNAVAILABLE, so that a program's `finally` blocks cannot change the
data of the next `EmulDisk`.

Writes go straight into the media's bytes, and the replaced bytes are put on the file's undo list until a flush has
made the writes durable. A power cut walks those lists backwards and restores each 512-byte sector's old content with
probability one half. This covers every outcome of a real disk with a volatile cache: sectors old or new, in any
order. A flush whose latency has not passed at the power cut is treated as unflushed.

After a **failed** flush (Linux, 2018, "fsyncgate") the cache marks its pages clean and reads return the new bytes,
although the media may hold the old ones. The file's `doubtful` records such sectors; the next power cut gives them
their old content unless they have been written and flushed again.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Literal, NoReturn, TypeAlias, TypeVar

from hal.disk import DiskError, DiskErrorKind

_T = TypeVar("_T")
Moment: TypeAlias = Literal["before", "inside", "after"]
"""When the power is cut: before an operation, which then has no effect; inside it; or after it, when it is
durable."""

SECTOR_BYTES = 512
_GROW_BYTES = 64 * 1024
_NAME = re.compile(r"[a-z0-9.-]{1,64}")


class _File:
    """One file on the media. `data` may be shorter than `size`; the rest has never been written (zeros)."""

    __slots__ = ("data", "doubtful", "size", "undo", "unreadable")

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = bytearray()
        self.undo: list[tuple[int, bytearray]] = []  # (offset, replaced bytes), oldest first
        self.doubtful: dict[int, bytearray] = {}  # sector number → content that the media may really hold
        self.unreadable: set[int] = set()  # sector numbers

    def extend_to(self, end: int) -> None:
        missing = end - len(self.data)
        if missing > 0:
            self.data.extend(bytes(min(self.size - len(self.data), max(missing, _GROW_BYTES))))

    def pieces(
        self, undo: list[tuple[int, bytearray]], piece_bytes: int = SECTOR_BYTES
    ) -> list[tuple[int, int, bytearray]]:
        """Split the undo list at sector boundaries, newest write first: (sector, offset, old bytes)."""
        pieces = []
        for offset, old in reversed(undo):
            start, end = offset, offset + len(old)
            while start < end:
                sector = start // piece_bytes
                stop = min(end, (sector + 1) * piece_bytes)
                pieces.append((sector, start, old[start - offset : stop - offset]))
                start = stop
        return pieces

    def sector(self, number: int) -> bytearray:
        """Return a copy of one sector; shorter than 512 bytes at the end of the file."""
        return self.data[number * SECTOR_BYTES : (number + 1) * SECTOR_BYTES]

    def tear(self, undo: list[tuple[int, bytearray]], random: Random, tear_bytes: int) -> None:
        for _, start, old in self.pieces(undo, tear_bytes):
            if random.getrandbits(1):
                self.data[start : start + len(old)] = old


class _Flushing:
    """A flush, reported as complete at `done_ns`. A power cut before `durable_ns` undoes part of `undo`."""

    __slots__ = ("done_ns", "durable_ns", "file", "undo")

    def __init__(self, done_ns: int, durable_ns: int, file: _File, undo: list[tuple[int, bytearray]]) -> None:
        self.done_ns, self.durable_ns, self.file, self.undo = done_ns, durable_ns, file, undo


class _Media:
    """The persistent content of the disk."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.is_read_only = False
        self.files: dict[str, _File] = {}

    def used_bytes(self) -> int:
        return sum(file.size for file in self.files.values())


class EmulDiskBackend:
    """Control of an emulated disk: power, faults, capacity. For the simulator and for tests."""

    def __init__(self, disk: EmulDisk) -> None:
        self._disk = disk
        self.on_power_lost: Callable[[], object] | None = None
        """Called when the power is cut in the middle of an operation (`cut_power_at`)."""

    def cut_power(self) -> EmulDisk:
        """Cut the power now, switch it on again, and return the new disk object over the same media."""
        self._disk._cut()
        return self.reboot()

    def reboot(self) -> EmulDisk:
        """Return a new disk object over the media of a disk that has lost power (`cut_power`, `cut_power_at`)."""
        old = self._disk
        assert old._powered_off, "the disk still has power"
        return EmulDisk._over(old._media, old)

    def lose_power(self) -> None:
        """Cut the power now unless it is off; `reboot` switches it on again."""
        if self.has_power:
            self._disk._cut()

    def cut_power_at(self, operation: int, moment: Moment = "inside") -> None:
        """Cut the power before, inside or after the `operation`-th next create, write, flush, rename or remove.

        1 is the next operation. The operation raises UNAVAILABLE. With "inside", its effect is absent, complete or
        torn; with "after", its effect is durable.
        """
        assert operation >= 1
        self._disk._countdown, self._disk._moment = operation, moment
        self._disk._guarded = True

    def set_tear_bytes(self, tear_bytes: int) -> None:
        """Let power cuts tear pieces of this size, a divisor of a sector, as devices without atomic sectors do."""
        assert SECTOR_BYTES % tear_bytes == 0, tear_bytes
        self._disk.tear_bytes = tear_bytes

    def drop_next_write(self, times: int = 1) -> None:
        """Let the next `times` writes report success and change nothing, as failing flash memory does."""
        self._disk._dropped_writes += times

    @property
    def operations_until_cut(self) -> int:
        """The number of operations left until the scheduled power cut (`cut_power_at`); 0 if none is scheduled."""
        return self._disk._countdown

    @property
    def used_bytes(self) -> int:
        """The space used by files, in bytes."""
        return self._disk._media.used_bytes()

    @property
    def has_power(self) -> bool:
        """Whether the power is on."""
        return not self._disk._powered_off

    @property
    def device_bytes_written(self) -> int:
        """Bytes written since the first power-on, including zero-filling."""
        return self._disk.bytes_written

    @property
    def flushes(self) -> int:
        """Successful flushes since the first power-on."""
        return self._disk.flushes

    def set_latency(self, flush_ns: int = 0, written_byte_ns: float = 0.0) -> None:
        """Set the duration of a flush: `flush_ns`, plus `written_byte_ns` for each byte it makes durable."""
        self._disk.flush_ns, self._disk.written_byte_ns = flush_ns, written_byte_ns

    def hold_flushed(self, ns: int) -> None:
        """Keep flushed data in a volatile cache for `ns` from now on, while reporting flushes as complete.

        After a change to 0, the next flush makes all held data durable, as a flush empties a real disk's whole cache.
        """
        self._disk.held_ns = ns

    def write_back(self) -> None:
        """Make durable all data whose flush was reported as complete, as a disk with enough time does."""
        for flushing in self._disk._settling:
            if flushing.done_ns <= self._disk._now_ns():
                flushing.durable_ns = 0

    def set_capacity(self, capacity_bytes: int) -> None:
        """Change the capacity. Existing files remain, even beyond it."""
        self._disk._media.capacity_bytes = capacity_bytes

    def fill(self) -> None:
        """Set the capacity to the used space, so that no new file fits."""
        self.set_capacity(self._disk._media.used_bytes())

    def free_bytes(self) -> int:
        """Free space for new files, in bytes; never negative."""
        return max(0, self._disk._media.capacity_bytes - self._disk._media.used_bytes())

    @property
    def is_read_only(self) -> bool:
        """Whether the disk refuses changes."""
        return self._disk._media.is_read_only

    def set_read_only(self, is_read_only: bool) -> None:
        """Set whether every change is refused with IO, as by a read-only file system."""
        self._disk._media.is_read_only = is_read_only

    def fail_next_flush(self, times: int = 1) -> None:
        """Let the next `times` flushes raise IO, each leaving an unknown subset of sectors durable."""
        self._disk._failing_flushes += times
        self._disk._guarded = True

    def fail_next_write(self, times: int = 1) -> None:
        """Let the next `times` writes raise IO and change nothing."""
        self._disk._failing_writes += times
        self._disk._guarded = True

    def fail_next_read(self, times: int = 1) -> None:
        """Let the next `times` reads raise IO."""
        self._disk._failing_reads += times

    def let_writes_succeed(self) -> None:
        """Cancel `fail_next_write`."""
        self._disk._failing_writes = 0

    def flip_bits(
        self, name: str | None = None, offset: int | None = None, bits: int = 1
    ) -> tuple[str, int] | None:
        """Flip `bits` bits of the sector at `offset` of file `name`; by default, of a random nonzero sector.

        All bits are flipped if the sector has fewer. Returns the name and the sector's offset; None if there is no
        such sector.
        """
        random, files = self._disk._random, self._disk._media.files
        if name is None:
            name = _choose([n for n, file in sorted(files.items()) if any(file.data)], random)
        if name is None:
            return None
        data = files[name].data
        if offset is None:
            starts = range(0, len(data), SECTOR_BYTES)
            nonzero = [start for start in starts if any(data[start : start + SECTOR_BYTES])]
            offset = _choose(nonzero, random)
        if offset is None:
            return None
        start = offset - offset % SECTOR_BYTES
        files[name].extend_to(start + SECTOR_BYTES)
        bits_max = min(SECTOR_BYTES, files[name].size - start) * 8
        flipped = range(bits_max) if bits >= bits_max else random.sample(range(bits_max), bits)
        for bit in flipped:
            data[start + bit // 8] ^= 1 << bit % 8
        return name, start

    def make_unreadable(self, name: str, offset: int) -> None:
        """Let reads of the sector at `offset` raise IO until it is written again."""
        self._disk._media.files[name].unreadable.add(offset // SECTOR_BYTES)


def _choose(choices: list[_T], random: Random) -> _T | None:
    return random.choice(choices) if choices else None


class EmulDisk:
    """`hal.disk.Disk` in memory; `backend` controls it.

    `random` decides which sectors tear or rot. `now_ns` is the clock for flush latency, and `spend(ns)` is called
    with the time that each call takes.
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
        self.tear_bytes = SECTOR_BYTES
        self.bytes_written, self.flushes = 0, 0

    @classmethod
    def _over(cls, media: _Media, old: EmulDisk) -> EmulDisk:
        new = cls(0, old._random, now_ns=old._now_ns, spend=old._spend)
        new._power_on(media)
        new.flush_ns, new.written_byte_ns, new.held_ns = old.flush_ns, old.written_byte_ns, old.held_ns
        new.tear_bytes = old.tear_bytes
        new.bytes_written, new.flushes = old.bytes_written, old.flushes
        return new

    def _power_on(self, media: _Media) -> None:
        self._media, self._files = media, media.files
        self._settling: deque[_Flushing] = deque()
        self._powered_off, self._guarded = False, False  # guarded: a fault may be due
        self._countdown = self._failing_flushes = self._failing_writes = self._failing_reads = 0
        self._dropped_writes = 0
        self._moment: Moment = "inside"  # of the power cut that `_countdown` counts down to
        self.backend = EmulDiskBackend(self)

    # -- the trait --------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """See `Disk.names`."""
        self._check_power()
        return sorted(self._files)

    def size(self, name: str) -> int:
        """See `Disk.size`."""
        return self._file(name).size

    def create(self, name: str, size: int) -> None:
        """See `Disk.create`."""
        assert _NAME.fullmatch(name) and size >= 0, (name, size)
        self._refuse_if_read_only(name)
        is_cut = self._begin()
        replaced = self._files[name].size if name in self._files else 0
        if self._media.used_bytes() - replaced + size > self._media.capacity_bytes:
            raise DiskError(DiskErrorKind.FULL, f"no room for {size} bytes")
        if not is_cut or self._takes_effect():
            self._files[name] = _File(size)
        self._end(is_cut)
        self.bytes_written += size
        self._elapse(self.flush_ns + int(size * self.written_byte_ns))

    def read(self, name: str, offset: int, length: int) -> bytes:
        """See `Disk.read`."""
        file = self._file(name)
        end = offset + length
        assert 0 <= offset <= end <= file.size, (name, offset, length)
        if self._failing_reads:
            self._failing_reads -= 1
            raise DiskError(DiskErrorKind.IO, f"{name}: read failed")
        if file.unreadable:
            sectors = range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES))
            if not file.unreadable.isdisjoint(sectors):
                raise DiskError(DiskErrorKind.IO, f"{name}: unreadable sector")
        return bytes(file.data[offset:end]).ljust(length, b"\0")

    def write(self, name: str, offset: int, data: bytes) -> None:
        """See `Disk.write`."""
        if self._media.is_read_only:
            self._refuse_if_read_only(name)
        is_cut = self._begin() if self._guarded else False
        if self._failing_writes:
            self._failing_writes -= 1
            raise DiskError(DiskErrorKind.IO, f"{name}: write failed")
        if self._dropped_writes:
            self._dropped_writes -= 1
            return
        file = self._files.get(name) or self._file(name)
        end = offset + len(data)
        assert 0 <= offset <= end <= file.size, (name, offset, len(data))
        if end > len(file.data):
            file.extend_to(end)
        file.undo.append((offset, file.data[offset:end]))
        file.data[offset:end] = data
        if file.unreadable:
            file.unreadable.difference_update(range(offset // SECTOR_BYTES, -(-end // SECTOR_BYTES)))
        self.bytes_written += len(data)
        if is_cut:
            self._end(is_cut, file)

    def flush(self, name: str) -> None:
        """See `Disk.flush`."""
        is_cut = self._begin() if self._guarded else False
        file = self._files.get(name) or self._file(name)
        if is_cut:
            self._end(is_cut, file)
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
        for flushing in reversed(self._settling):  # this flush also makes the data that was held back durable
            if flushing.durable_ns <= durable_ns:
                break
            flushing.durable_ns = durable_ns
        self._settling.append(_Flushing(done_ns, durable_ns, file, undo))
        file.undo = []
        self._elapse(took)

    def commit(self, name: str, offset: int, data: bytes) -> None:
        """See `Disk.commit`. A write and a flush; a power cut can happen in either."""
        self.write(name, offset, data)
        self.flush(name)

    def rename(self, name: str, new_name: str) -> None:
        """See `Disk.rename`."""
        assert _NAME.fullmatch(new_name), new_name
        self._refuse_if_read_only(name)
        is_cut = self._begin()
        self._file(name)
        if not is_cut or self._takes_effect():
            self._files[new_name] = self._files.pop(name)
        self._end(is_cut)
        self._elapse(self.flush_ns)

    def remove(self, name: str) -> None:
        """See `Disk.remove`."""
        self._refuse_if_read_only(name)
        is_cut = self._begin()
        self._file(name)
        if not is_cut or self._takes_effect():
            del self._files[name]
        self._end(is_cut)
        self._elapse(self.flush_ns)

    # -- power ------------------------------------------------------------------------------------------

    def _check_power(self) -> None:
        if self._powered_off:
            raise DiskError(DiskErrorKind.UNAVAILABLE, "the disk has lost power")

    def _refuse_if_read_only(self, name: str) -> None:
        self._check_power()
        if self._media.is_read_only:
            raise DiskError(DiskErrorKind.IO, f"{name}: read-only file system")

    def _file(self, name: str) -> _File:
        self._check_power()
        file = self._files.get(name)
        if file is None:
            raise DiskError(DiskErrorKind.MISSING, f"there is no file {name!r}")
        return file

    def _begin(self) -> bool:
        """Count one device operation; return True if the power is cut during it."""
        self._check_power()
        is_cut = self._countdown == 1
        self._countdown -= self._countdown > 0
        self._guarded = bool(self._countdown or self._failing_flushes or self._failing_writes)
        if is_cut and self._moment == "before":
            self._end(is_cut)
        return is_cut

    def _takes_effect(self) -> bool:
        """Return whether the operation in which the power is cut has an effect."""
        return self._moment == "after" or bool(self._random.getrandbits(1))

    def _end(self, is_cut: bool, file: _File | None = None) -> None:
        if is_cut:
            if file is not None and self._moment == "after":
                file.undo.clear()
            self._cut()
            if self.backend.on_power_lost is not None:
                self.backend.on_power_lost()
            self._check_power()

    def _cut(self) -> None:
        self._powered_off = self._guarded = True
        self._settle()
        for file in self._files.values():
            file.tear(file.undo, self._random, self.tear_bytes)
            file.undo = []
        for flushing in reversed(self._settling):
            flushing.file.tear(flushing.undo, self._random, self.tear_bytes)
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
                offset = start - sector * SECTOR_BYTES
                media[offset : offset + len(old)] = old
        for sector, media in lost.items():
            if media is None:
                file.doubtful.pop(sector, None)
            else:
                file.doubtful.setdefault(sector, media)
        file.undo = []
        raise DiskError(DiskErrorKind.IO, f"{name}: flush failed")

    def _elapse(self, ns: int) -> None:
        if ns and self._spend is not None:
            self._spend(ns)
