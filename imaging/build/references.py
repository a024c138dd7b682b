"""Finds the UUIDs of file systems and partitions as text in an image, so that flashing can replace them.

The raw image is searched instead of its files, so that no copy is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from imaging.build.boot.bootloader import ENTRIES, MENU
from imaging.build.partitions import PlacedPartition
from imaging.build.types import BuildFailed, DiskIds
from imaging.media.imagefile import mapped_extents
from imaging.signing import SignedFileSystem, SignedPartition

CHUNK_BYTES: Final = 16 * 1024 * 1024
FILES: Final = (MENU, f"{ENTRIES}/*.conf", "boot/efi/EFI/*/grub.cfg")
"""The files of a system that refer to file systems or partitions by UUID."""
FORMATS: Final[dict[str, Literal["ext4", "vfat"]]] = {"ext4": "ext4", "efi": "vfat"}


def identifiers(
    image: Path, tree: Path, placed: list[PlacedPartition], ids: DiskIds
) -> tuple[list[SignedFileSystem], list[SignedPartition]]:
    """Return the file systems and partitions of an image with all references to them.

    The root slot is not among them, because it has the same bytes on all disks.

    Raises: BuildFailed, if a reference is fragmented in the image; OSError.
    """
    text = b"".join(path.read_bytes() for pattern in FILES for path in sorted(tree.glob(pattern)))
    systems, parts = [], []
    for one in placed:
        mount, name = one.partition.mount, one.partition.name
        if mount in ids.file_systems and mount != "/" and (kind := FORMATS.get(one.partition.format)):
            own = ids.file_systems[mount]
            systems.append(SignedFileSystem(one.offset, kind, own, _references(image, text, name, own)))
        own = ids.partitions[name]
        if own.encode() in text:
            parts.append(SignedPartition(one.offset, own, _references(image, text, name, own)))
    return systems, parts


def _references(image: Path, text: bytes, name: str, own: str) -> list[int]:
    offsets = list(_find(image, own.encode()))
    if len(offsets) < text.count(own.encode()):
        raise BuildFailed(f"{name}: a reference to its UUID {own} is fragmented in the image")
    return offsets


def _find(image: Path, text: bytes) -> Iterator[int]:
    """Yield the offsets of a text in an image; chunks overlap, so that a text across two of them is found."""
    with image.open("rb") as file:
        for offset, length in mapped_extents(image):
            end = offset + length
            while offset < end:
                file.seek(offset)
                data = file.read(min(CHUNK_BYTES + len(text) - 1, end - offset))
                at = data.find(text)
                while at >= 0:
                    yield offset + at
                    at = data.find(text, at + 1)
                offset += CHUNK_BYTES
