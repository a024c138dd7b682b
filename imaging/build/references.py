"""Where an image contains the UUIDs of its file systems as text, so that flashing can replace them.

Text is found in the raw image, and not through the file systems, so that no copy is overlooked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imaging.build.bootloader import ENTRIES, MENU
from imaging.build.partitions import PartitionPlace
from imaging.build.types import BuildFailed
from imaging.media.imagefile import mapped_extents
from imaging.signing import SignedFileSystem

CHUNK_BYTES: Final = 16 * 1024 * 1024
FILES: Final = ("etc/fstab", MENU, f"{ENTRIES}/*.conf", "boot/efi/EFI/*/grub.cfg")
"""The files of a system that name file systems by UUID."""
FORMATS: Final = {"ext4": "ext4", "efi": "vfat"}


def file_systems(
    image: Path, tree: Path, places: list[PartitionPlace], ids: dict[str, str]
) -> list[SignedFileSystem]:
    """Return the file systems of an image with all references to them. `ids` are their UUIDs by mount point.

    Raises: BuildFailed, if a reference in the files of the system was not found in one piece; OSError.
    """
    text = b"".join(path.read_bytes() for pattern in FILES for path in sorted(tree.glob(pattern)))
    systems = []
    for place in places:
        if (mount := place.partition.mount) in ids and place.partition.format in FORMATS:
            references = list(_find(image, ids[mount].encode()))
            if len(references) < text.count(ids[mount].encode()):
                raise BuildFailed(f"{mount}: a reference to its UUID {ids[mount]} is fragmented in the image")
            systems.append(
                SignedFileSystem(place.offset, FORMATS[place.partition.format], ids[mount], references)  # type: ignore[arg-type]
            )
    return systems


def _find(image: Path, text: bytes) -> Iterator[int]:
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
