"""The root slot in a disk image, which releases are made from and whose hash a box computes.

The slot is the file system in the partition of slot a, without the bytes after it in the partition.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from imaging.flash import gpt
from imaging.release.ext4 import Ext4, Ext4Error
from settings import slots

_HEAD_BYTES: Final = 1024 * 1024
_CHUNK_BYTES: Final = 4 * 1024 * 1024


class SlotImageError(Exception):
    """A disk image has no slot; the message states why."""


class SlotExtent(NamedTuple):
    """The offset and the length of a slot in a disk image, in bytes."""

    offset: int
    length: int


def find_slot(image: Path) -> SlotExtent | None:
    """Return the position of slot a in a disk image; None if the file has no partitions.

    Raises: SlotImageError, OSError.
    """
    with image.open("rb") as file:
        try:
            parts = gpt.slices(file.read(_HEAD_BYTES))
        except gpt.GptError:
            return None
        label = slots.PARTITIONS["a"]
        part = next((part for part in parts if part.label == label), None)
        if part is None:
            raise SlotImageError(f"{image}: has no partition {label}; give an image of `rap image build`")
        with mmap.mmap(file.fileno(), part.offset + part.length, prot=mmap.PROT_READ) as whole:
            view = memoryview(whole)
            slot = view[part.offset :]
            try:
                length = Ext4(slot).length
            except Ext4Error as error:
                raise SlotImageError(f"{image}: its partition {label} {error}") from None
            finally:
                slot.release()
                view.release()
    if length > part.length:
        raise SlotImageError(
            f"{image}: its partition {label} has a file system that is longer than the partition"
        )
    return SlotExtent(part.offset, length)


def extract_slot(image: Path, slot: SlotExtent, target: Path) -> None:
    """Copy a slot to a new file. Raises: OSError."""
    with target.open("xb") as file:
        for chunk in _chunks(image, slot):
            file.write(chunk)


def slot_sha256(image: Path, slot: SlotExtent) -> str:
    """Return the SHA-256 of a slot, as a box computes it. Raises: OSError."""
    digest = sha256()
    for chunk in _chunks(image, slot):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(image: Path, slot: SlotExtent) -> Iterator[bytes]:
    end = slot.offset + slot.length
    with image.open("rb") as file:
        for at in range(slot.offset, end, _CHUNK_BYTES):
            yield os.pread(file.fileno(), min(_CHUNK_BYTES, end - at), at)
