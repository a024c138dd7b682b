"""A raw partition in memory, with the faults of an emulated disk: power cuts, torn writes, bit rot, I/O errors.

It is the only file of a separate `hal.emul.disk.EmulDisk`, whose faults become those of the partition.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from hal.emul.disk import EmulDisk, EmulDiskBackend, Moment
from hal.partition import SECTOR_BYTES

_FILE: Final = "partition"


class EmulPartitionBackend:
    """Control of an emulated partition: power, faults, content. For the simulator and for tests."""

    def __init__(self, partition: EmulPartition) -> None:
        self._partition = partition

    @property
    def _backend(self) -> EmulDiskBackend:
        return self._partition._disk.backend

    @property
    def on_power_lost(self) -> Callable[[], object] | None:
        """Called when the power is cut in an operation (`cut_power_at`)."""
        return self._backend.on_power_lost

    @on_power_lost.setter
    def on_power_lost(self, call: Callable[[], object] | None) -> None:
        self._backend.on_power_lost = call

    @property
    def has_power(self) -> bool:
        """Whether the power is on."""
        return self._backend.has_power

    @property
    def operations_until_cut(self) -> int:
        """The number of operations left until the scheduled power cut (`cut_power_at`); 0 if none is scheduled."""
        return self._backend.operations_until_cut

    def cut_power(self) -> EmulPartition:
        """Cut the power now unless it is off, switch it on, and return the new partition over the same media."""
        return self._next(self._backend.cut_power() if self.has_power else self._backend.reboot())

    def lose_power(self) -> None:
        """Cut the power now unless it is off; `cut_power` switches it on again."""
        self._backend.lose_power()

    def _next(self, disk: EmulDisk) -> EmulPartition:
        partition = EmulPartition.__new__(EmulPartition)
        partition._over(disk, self._partition.size)
        return partition

    def cut_power_at(self, operation: int, moment: Moment = "inside") -> None:
        """Cut the power before, inside or after the `operation`-th next write or flush (1 = next).

        The operation raises UNAVAILABLE. With "inside", each sector of a write is old or new; with "after", the write
        is durable.
        """
        self._backend.cut_power_at(operation, moment)

    def tear_within_sectors(self, tear_bytes: int) -> None:
        """Let power cuts tear pieces of this size, a divisor of a sector, as devices without atomic sectors do."""
        self._backend.set_tear_bytes(tear_bytes)

    def set_latency(self, flush_ns: int = 0, written_byte_ns: float = 0.0) -> None:
        """Set the duration of a flush: `flush_ns`, plus `written_byte_ns` for each byte it makes durable."""
        self._backend.set_latency(flush_ns, written_byte_ns)

    def drop_next_write(self, times: int = 1) -> None:
        """Let the next `times` writes report success and change nothing, as failing flash memory does."""
        self._backend.drop_next_write(times)

    def fail_next_write(self, times: int = 1) -> None:
        """Let the next `times` writes raise IO and change nothing."""
        self._backend.fail_next_write(times)

    def fail_next_flush(self, times: int = 1) -> None:
        """Let the next `times` flushes raise IO, each leaving an unknown subset of sectors durable."""
        self._backend.fail_next_flush(times)

    def fail_next_read(self, times: int = 1) -> None:
        """Let the next `times` reads raise IO."""
        self._backend.fail_next_read(times)

    def flip_bits(self, offset: int, bits: int = 1) -> None:
        """Flip `bits` bits of the sector at `offset`."""
        self._backend.flip_bits(_FILE, offset, bits)

    def make_unreadable(self, offset: int) -> None:
        """Let reads of the sector at `offset` raise IO until it is written again."""
        self._backend.make_unreadable(_FILE, offset)


class EmulPartition:
    """`hal.partition.Partition` in memory; `backend` controls it.

    `content` is at its beginning, zeros follow. `random` decides which sectors tear. `now_ns` is the clock for the
    latency of flushes, and `spend(ns)` is called with the time that each call takes.
    """

    def __init__(
        self,
        size: int,
        random: Random,
        content: bytes = b"",
        *,
        now_ns: Callable[[], int] = lambda: 0,
        spend: Callable[[int], None] | None = None,
    ) -> None:
        assert size % SECTOR_BYTES == 0 and len(content) <= size, (size, len(content))
        disk = EmulDisk(size, random, now_ns=now_ns, spend=spend)
        disk.create(_FILE, size)
        disk.write(_FILE, 0, content)
        disk.flush(_FILE)
        self._over(disk, size)

    def _over(self, disk: EmulDisk, size: int) -> None:
        self._disk, self._size = disk, size
        self.backend = EmulPartitionBackend(self)

    @property
    def size(self) -> int:
        """See `Partition.size`."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """See `Partition.read`."""
        return self._disk.read(_FILE, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """See `Partition.write`."""
        assert offset % SECTOR_BYTES == 0 == len(data) % SECTOR_BYTES, (offset, len(data))
        self._disk.write(_FILE, offset, data)

    def flush(self) -> None:
        """See `Partition.flush`."""
        self._disk.flush(_FILE)
