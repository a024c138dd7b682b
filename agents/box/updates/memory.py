"""The updater's persistent state: the order, its phase, and the releases that failed.

It is stored twice on the box's disk, in files of fixed size, so that a full disk cannot prevent a write. A write
replaces the older copy; a torn or corrupt copy has a wrong checksum, and the other one is used.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from agents.box.updates.table import UpdateEvent, UpdatePhase
from hal.disk import Disk, DiskError, DiskErrorKind
from settings.slots import Slot
from wire.messages import UpdateWord
from wire.release.messages import UpdateOrder

COPIES: Final = ("update-0", "update-1")
COPY_BYTES: Final = 16 * 1024
BARRED_MAX: Final = 256
"""Maximum number of remembered failed releases; beyond it, the oldest are forgotten."""
UNREPORTED_MAX: Final = 16
_PREFIX: Final = Struct("<IIQ")  # CRC-32 of what follows it, length of the content, number of the write


class FetchPlan(msgspec.Struct, frozen=True):
    """The files of an order: the delta with its source and result, or the blocks of the whole slot."""

    delta_sha256: str
    delta_bytes: int
    """0: no delta fits; then the whole slot of the release is fetched, by the blocks below."""
    source_sha256: str
    target_sha256: str
    target_bytes: int
    floor: int
    """The lowest release that may be installed once this one is committed."""
    blocks_sha256: str = ""
    blocks_bytes: int = 0
    """The file of the blocks (`wire.release.blocks`) of the source, or of the slot that is fetched as a whole; 0
    bytes: it is not released."""
    slot_file_sha256: str = ""
    """The complete slot of these blocks, compressed, from which blocks are fetched."""
    is_application: bool = False
    """Whether the delta changes only the application, so that the machine need not restart."""

    @property
    def is_whole(self) -> bool:
        """Whether the whole slot is fetched."""
        return not self.delta_bytes


class DataSet(msgspec.Struct, frozen=True, array_like=True):
    """A data release (`wire.release.data`): its number, its manifest, and the size of its files in bytes."""

    release: int
    sha256: str
    size: int
    total_bytes: int
    floor: int = 0
    """The lowest data release that may be used once this one is committed."""


class Unreported(msgspec.Struct, frozen=True, array_like=True):
    """A step of an update that is not in the audit log yet."""

    order: int
    release: int
    step: UpdateWord
    reason: str


class Memory(msgspec.Struct):
    """The updater's persistent state."""

    phase: UpdatePhase = UpdatePhase.IDLE
    order: UpdateOrder = UpdateOrder(0)
    """The order that is followed, or was followed last."""
    plan: FetchPlan | None = None
    target_slot: Slot | None = None
    """The slot that the update writes."""
    cause: str = ""
    """The reason why the update is reverted."""
    attempts: int = 0
    """How often the delta had to be fetched again, or the slot to be written again."""
    restarts: int = 0
    """How often the restart into the trial was requested."""
    switches: int = 0
    """How often a start of the programs from the other slot without a restart was requested."""
    trial_starts: int = 0
    """How often the program has started in the trial."""
    unreported: Annotated[list[Unreported], Meta(max_length=UNREPORTED_MAX)] = []
    running: int = 0
    """The number of the release that is committed; 0 if unknown."""
    slot_sha256: str = ""
    """The hash of the slot of the release `running`, as last computed."""
    slot_bytes: int = 0
    """The hashed length; 0: the length of the slot's content (`slot_work.slot_bytes`)."""
    floor: int = 0
    """Releases with a lower number are refused."""
    data: DataSet | None = None
    """The data release that is committed; None: the profiles and files of the program's package are used."""
    data_before: DataSet | None = None
    """The previous data release, which is used if the files of `data` are damaged."""
    data_new: DataSet | None = None
    """The data release of the order; in force while it is on trial."""
    data_floor: int = 0
    """Data releases with a lower number are refused."""
    barred: Annotated[list[int], Meta(max_length=BARRED_MAX)] = []
    """Numbers of releases that failed here, and are never fetched again."""

    @property
    def data_chosen(self) -> tuple[DataSet, ...]:
        """The data releases that may be in force, in order of preference."""
        trial = self.data_new if self.phase is UpdatePhase.DATA_TRIAL else None
        return tuple(data for data in (trial, self.data, self.data_before) if data is not None)

    def bar(self, release: int) -> None:
        """Remember that a release failed."""
        self.barred = [*(number for number in self.barred if number != release), release][-BARRED_MAX:]


@dataclass(slots=True)
class PhaseOutcome:
    """An event for the table, and the reason that is reported with it; `change` is stored together with the phase."""

    event: UpdateEvent
    reason: str = ""
    change: Callable[[Memory], object] = field(default=lambda _memory: None)


class MemoryStore:
    """Stores the memory on a disk. Calls block."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._next = 0, 1  # the copy to write, and the number of the write

    def open(self) -> Memory:
        """Return the newest memory; an empty one if there is none. Raises: DiskError; FULL without room for it."""
        copies = []
        for copy, name in enumerate(COPIES):
            try:
                data = self._disk.read(name, 0, COPY_BYTES)
            except DiskError as error:
                if error.kind is DiskErrorKind.UNAVAILABLE:
                    raise
                if error.kind is DiskErrorKind.MISSING:
                    self._disk.create(name, COPY_BYTES)
                continue
            if (decoded := _decoded(data)) is not None:
                copies.append((decoded[0], copy, decoded[1]))
        if not copies:
            return Memory()
        number, copy, memory = max(copies, key=lambda each: each[0])
        self._next = 1 - copy, number + 1
        return memory

    def save(self, memory: Memory) -> None:
        """Make the memory durable. Raises: DiskError; then the older memory or this one is stored."""
        copy, number = self._next
        content = msgspec.msgpack.encode(memory)
        body = _PREFIX.pack(0, len(content), number)[4:] + content
        data = zlib.crc32(body).to_bytes(4, "little") + body
        assert len(data) <= COPY_BYTES, f"the memory has {len(data)} bytes"
        self._disk.commit(COPIES[copy], 0, data.ljust(-(-len(data) // 512) * 512, b"\0"))
        self._next = 1 - copy, number + 1


def _decoded(data: bytes) -> tuple[int, Memory] | None:
    """Return number and memory of a copy; None if it is invalid."""
    crc, length, number = _PREFIX.unpack_from(data)
    if not number or length > len(data) - _PREFIX.size or zlib.crc32(data[4 : _PREFIX.size + length]) != crc:
        return None
    try:
        return number, msgspec.msgpack.decode(data[_PREFIX.size : _PREFIX.size + length], type=Memory)
    except msgspec.DecodeError:  # written by a newer version, which was not committed
        return None
