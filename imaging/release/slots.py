"""Releasing a root slot: the whole slot for repairs, the list of its blocks, and deltas from earlier releases."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imaging.media.bmap import Bmap, MappedRange
from imaging.media.imagefile import compress_framed, frames, sha256_of
from imaging.release.application import changes_only_application
from imaging.release.delta import DeltaInputError, make_delta
from imaging.release.repository import (
    NewRelease,
    ReleaseError,
    ReleaseRepository,
    RoleKeyFiles,
    check_release,
)
from imaging.release.slot_image import extract_slot, find_slot
from wire.release.blocks import SLOT_BLOCK_BYTES, SlotBlock, render

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def release_slot(
    repository: ReleaseRepository,
    image: Path,
    release: NewRelease,
    keys: RoleKeyFiles,
    now: datetime,
    delta_from: Sequence[str] = (),
) -> list[str]:
    """Release a slot, with deltas from these releases. Returns the names of the new files.

    `image` is an image of the slot, or a disk image of `rap image build` that contains it. If all deltas change only
    the application (`imaging.release.application`), the release has the kind "application".
    Raises: ReleaseError, SlotImageError, SignatureError, OSError.
    """
    released = repository.released()
    check_release(release, released)
    for name in delta_from:
        if f"slots/{name}.zst" not in released:
            known = ", ".join(sorted(name for name in released if name.endswith(".zst"))) or "none"
            raise ReleaseError(
                f"slots/{name}.zst is not released, so there is no delta from it; the releases are: {known}"
            )
    with TemporaryDirectory(dir=repository.folder) as folder:
        if (extent := find_slot(image)) is not None:
            extract_slot(image, extent, image := Path(folder, "slot.img"))
        custom = {
            "release": release.name,
            "number": release.number,
            "floor": release.floor,
            "target": sha256_of(image),
            "bytes": image.stat().st_size,
        }
        packed = Path(folder, "slot.zst")
        (blocks := Path(folder, "slot.blocks")).write_bytes(pack_slot(image, packed))
        files: dict[str, tuple[Path, dict[str, Any]]] = {
            f"slots/{release.name}.zst": (packed, custom),
            f"slots/{release.name}.blocks": (blocks, custom),
        }
        for name in delta_from:
            source = _unpack(repository.targets / f"slots/{name}.zst", Path(folder, f"{name}.img"))
            (delta := Path(folder, f"{name}.delta")).write_bytes(_delta(source, image))
            about = {**custom, "source": sha256_of(source)}
            if changes_only_application(source, image):
                about["application"] = True
            files[f"deltas/{name}-{release.name}"] = delta, about
            source.unlink()
        if sum("application" in about for _, about in files.values()) == len(delta_from) > 0:
            for _, about in files.values():
                about["kind"] = "application"
        repository.add_all(files, keys, now)
    return list(files)


def pack_slot(image: Path, packed: Path) -> bytes:
    """Compress an image into `packed`, a frame for each block that is not zero; return the list of its blocks."""
    size, spans, digests = image.stat().st_size, [], []
    with image.open("rb") as file:
        for offset in range(0, size, SLOT_BLOCK_BYTES):
            data = os.pread(file.fileno(), SLOT_BLOCK_BYTES, offset)
            digests.append(sha256(data).digest())
            if any(data):
                spans.append(MappedRange(offset, len(data), digests[-1]))
    compress_framed(image, Bmap(size, tuple(spans)), packed)
    with packed.open("rb") as file:
        at = {frame.offset: frame for frame in frames(file.fileno()) if frame.length <= SLOT_BLOCK_BYTES}
    used = {span.offset for span in spans}
    return render(
        SlotBlock(digest, at[offset].file_offset, at[offset].file_bytes)
        if offset in used
        else SlotBlock(digest, 0, 0)
        for offset, digest in zip(range(0, size, SLOT_BLOCK_BYTES), digests, strict=True)
    )


def _unpack(packed: Path, image: Path) -> Path:
    with zstd.open(packed) as source, image.open("xb") as target:
        while data := source.read(SLOT_BLOCK_BYTES):
            if any(data):
                target.write(data)
            else:
                target.seek(len(data), os.SEEK_CUR)
        target.truncate()
    return image


def _delta(source: Path, target: Path) -> bytes:
    try:
        return make_delta(source, target)
    except DeltaInputError as error:
        raise ReleaseError(str(error)) from None
