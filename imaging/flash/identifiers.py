"""New identifiers for each flashed disk, so that disks written from one image cannot be confused with each other.

If the UUIDs were equal, a machine with two such disks could mount partitions of the wrong one. When a disk is written
again, its journal blocks, which the image does not map, still contain the earlier file system's journal. With equal
identifiers, the checksums and sequence numbers of that journal would be valid, and it would be replayed.

Three kinds of identifiers are drawn at random: the GUIDs of the partition table (`imaging.flash.gpt.fit`), the UUID
or serial of each file system in the manifest, and the first sequence number of each journal. The first two are also
replaced where the image contains them as text.

Sources: the kernel's Documentation/filesystems/ext4 (superblock, journal); Microsoft's FAT specification, 3.3.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

from imaging.flash.gpt import Slice
from imaging.flash.source import Image
from imaging.media.imagefile import ImageError
from imaging.signing import SignedFileSystem, SignedPartition

Draw = Callable[[int], bytes]
"""Returns the given number of random bytes."""

SUPERBLOCK_OFFSET: Final = 1024
SUPERBLOCK_BYTES: Final = 1024
_EXT_MAGIC: Final = 0xEF53
_HAS_JOURNAL, _CSUM_SEED, _METADATA_CSUM, _GDT_CSUM = 0x4, 0x2000, 0x400, 0x10
_SPARSE_SUPER, _SPARSE_SUPER_2, _META_BG = 0x1, 0x200, 0x10
_EXTENT_MAGIC: Final = 0xF30A
_JOURNAL_MAGIC, _JOURNAL_SUPERBLOCKS = 0xC03B3998, (3, 4)
_JOURNAL_BYTES: Final = 1024
_FAT_SERIAL, _FAT_BACKUP_SECTOR, _FAT_SIGNATURE = 0x43, 50, 0x42
SECTOR: Final = 512


@dataclass(frozen=True)
class IdentifierPatch:
    """Bytes that replace those of the image at `offset`."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset of the first byte after the patch."""
        return self.offset + len(self.data)


def patches(image: Image, slices: Sequence[Slice], draw: Draw) -> tuple[IdentifierPatch, ...]:
    """Draw new identifiers for the file systems that the manifest lists; return the changes to the image.

    References to partitions get the UUIDs in `slices`, the table of the disk.

    Raises: ImageError, if a file system differs from the manifest, or cannot get another UUID.
    """
    changes: list[IdentifierPatch] = []
    drawn = {each.offset: each.id for each in slices}
    for part in image.manifest.partitions:
        if part.offset not in drawn:
            raise ImageError(f"{image.path}: has no partition at byte {part.offset}; build the image again")
        changes += _replace(image, part, drawn[part.offset])
    for system in image.manifest.file_systems:
        text, own = (_ext4 if system.format == "ext4" else _fat)(image, system, draw)
        changes += own
        changes += _replace(image, system, text)
    return tuple(sorted(changes, key=lambda patch: patch.offset))


def _replace(image: Image, signed: SignedFileSystem | SignedPartition, new: str) -> Iterator[IdentifierPatch]:
    """Yield the patches that replace all references to a file system or partition by its new identifier."""
    old = signed.id.encode()
    for offset in signed.references:
        if image.bytes(offset, len(old)) != old:
            raise _wrong(image, signed, f"its UUID is not at byte {offset} of the image")
        yield IdentifierPatch(offset, new.encode())


def apply(patches: tuple[IdentifierPatch, ...], offset: int, data: memoryview) -> bool:
    """Apply the patches to `data`, the image's bytes at `offset`; return whether any applies.

    A patch may extend over several ranges.
    """
    applies = False
    for patch in patches:
        start, stop = max(patch.offset, offset), min(patch.end, offset + len(data))
        if start < stop:
            data[start - offset : stop - offset] = patch.data[start - patch.offset : stop - patch.offset]
            applies = True
    return applies


def random_uuid(draw: Draw) -> uuid.UUID:
    """Return a random UUID (RFC 9562, version 4)."""
    return uuid.UUID(bytes=draw(16), version=4)


def _wrong(image: Image, signed: SignedFileSystem | SignedPartition, problem: str) -> ImageError:
    what = "file system" if isinstance(signed, SignedFileSystem) else "partition"
    return ImageError(f"{image.path}: the {what} at byte {signed.offset} {problem}; build the image again")


# -- ext4


def _ext4(image: Image, system: SignedFileSystem, draw: Draw) -> tuple[str, list[IdentifierPatch]]:
    first = image.bytes(system.offset + SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES)
    (magic,) = struct.unpack_from("<H", first, 0x38)
    compatible, incompatible, read_only = struct.unpack_from("<III", first, 0x5C)
    if magic != _EXT_MAGIC or str(uuid.UUID(bytes=first[0x68:0x78])) != system.id:
        raise _wrong(image, system, f"is not the ext4 with the UUID {system.id}")
    if read_only & _GDT_CSUM or (read_only & _METADATA_CSUM and not incompatible & _CSUM_SEED):
        raise _wrong(image, system, "has checksums that depend on its UUID (no metadata_csum_seed)")
    new = random_uuid(draw)
    changes = []
    for block in _superblocks(image, system, first):
        offset = system.offset + block
        copy = bytearray(image.bytes(offset, SUPERBLOCK_BYTES))
        if copy[0x38:0x3A] != first[0x38:0x3A] or copy[0x68:0x78] != first[0x68:0x78]:
            raise _wrong(image, system, f"has no copy of its superblock at byte {offset}")
        copy[0x68:0x78] = new.bytes
        if read_only & _METADATA_CSUM:
            struct.pack_into("<I", copy, 0x3FC, ~crc32c(bytes(copy[:0x3FC])) & 0xFFFFFFFF)
        changes.append(IdentifierPatch(offset, bytes(copy)))
    if compatible & _HAS_JOURNAL:
        changes.append(_journal(image, system, first, new, draw))
    return str(new), changes


def _superblocks(image: Image, system: SignedFileSystem, first: bytes) -> Iterator[int]:
    """Yield the offsets of all superblocks in the file system: the one in block group 0, and the copies."""
    (blocks,), (first_data, scale) = (
        struct.unpack_from("<I", first, 4),
        struct.unpack_from("<II", first, 0x14),
    )
    (per_group,) = struct.unpack_from("<I", first, 0x20)
    compatible, incompatible, read_only = struct.unpack_from("<III", first, 0x5C)
    if not read_only & _SPARSE_SUPER or compatible & _SPARSE_SUPER_2 or incompatible & _META_BG:
        raise _wrong(image, system, "has its superblocks at unusual positions (sparse_super is needed)")
    yield SUPERBLOCK_OFFSET
    groups = -(-(blocks - first_data) // per_group)
    powers = {base**power for base in (3, 5, 7) for power in range(32) if base**power < groups}
    for group in sorted(powers):
        yield (group * per_group + first_data) * (1024 << scale)


def _journal(
    image: Image, system: SignedFileSystem, first: bytes, new: uuid.UUID, draw: Draw
) -> IdentifierPatch:
    """Return a patch of the journal: its new UUID, which seeds its checksums, and a random first sequence number."""
    copy_of_inode = struct.unpack_from("<15I", first, 0x10C)
    (scale,) = struct.unpack_from("<I", first, 0x18)
    header, block, start = copy_of_inode[0], copy_of_inode[3], copy_of_inode[5]
    if header & 0xFFFF != _EXTENT_MAGIC or copy_of_inode[1] >> 16 or block:
        raise _wrong(image, system, "has a journal without extents")
    offset = system.offset + start * (1024 << scale)
    journal = bytearray(image.bytes(offset, _JOURNAL_BYTES))
    magic, kind, *_, begin = struct.unpack_from(">8I", journal)
    if magic != _JOURNAL_MAGIC or kind not in _JOURNAL_SUPERBLOCKS or begin or any(journal[0x24:0x30]):
        raise _wrong(image, system, "has a journal that is in use, or has unsupported features")
    journal[0x30:0x40] = new.bytes
    # An odd number below 2**31: it is not 0, and it cannot overflow. An earlier journal used at most some thousands
    # of sequence numbers, so a collision with one of them is unlikely.
    struct.pack_into(">I", journal, 0x18, int.from_bytes(draw(4)) >> 1 | 1)
    return IdentifierPatch(offset, bytes(journal))


# -- FAT


def _fat(image: Image, system: SignedFileSystem, draw: Draw) -> tuple[str, list[IdentifierPatch]]:
    sector = image.bytes(system.offset, SECTOR)
    (old,) = struct.unpack_from("<I", sector, _FAT_SERIAL)
    if sector[510:] != b"\x55\xaa" or sector[_FAT_SIGNATURE] != 0x29 or _serial(old) != system.id:
        raise _wrong(image, system, f"is not the FAT32 with the serial {system.id}")
    (backup,) = struct.unpack_from("<H", sector, _FAT_BACKUP_SECTOR)
    new = draw(4)
    offsets = [system.offset + number * SECTOR + _FAT_SERIAL for number in {0, backup}]
    return _serial(int.from_bytes(new, "little")), [IdentifierPatch(offset, new) for offset in offsets]


def _serial(number: int) -> str:
    return f"{number >> 16:04X}-{number & 0xFFFF:04X}"
