"""Moves a flashed box's identity from its raw partition to the box's directory.

A power cut at any moment leaves either the partition or the directory complete: the files are flushed to the disk
before the partition is changed, and `provision` repeats incomplete steps. The certificate is written last, because
the units start the box as soon as box.crt exists.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from settings import identity_archive
from settings.identity_archive import CERTIFICATE, HEADER_BYTES, KEY, REQUEST, SERIAL, SITE
from wire.process.files import write_file

PARTITION: Final = Path("/dev/disk/by-partlabel") / identity_archive.LABEL
AREA_BYTES_MAX: Final = 1024 * 1024
"""Largest size of an identity."""
READABLE_BY_BOX: Final = 0o640


def read_identity(partition: Path, folder: Path) -> dict[str, bytes]:
    """Return the files of the identity in this partition; none if it does not exist or has been erased.

    A half-written partition after a power cut is not an error if `folder` already has the box's key.

    Raises: identity_archive.IdentityError, if it is damaged, or has no key and `folder` has none; OSError.
    """
    area = _area(partition)
    if not any(area[:HEADER_BYTES]):
        return {}
    try:
        files = identity_archive.unpack(area)
    except identity_archive.IdentityError:
        if not (folder / KEY).exists():
            raise
        return {}
    if KEY not in files and not (folder / KEY).exists():
        raise identity_archive.IdentityError(
            "the identity on this disk has no key, and the box has none either: write the disk again"
        )
    return files


def install_files(files: dict[str, bytes], folder: Path) -> None:
    """Write the files of an identity to the box's directory, without its certificate. Raises: OSError."""
    for name in sorted(files.keys() - {CERTIFICATE}):
        mode = identity_archive.SECRET_MODE if name == SITE else READABLE_BY_BOX
        write_file(folder / name, files[name], mode)


def install_certificate(files: dict[str, bytes], folder: Path) -> bool:
    """Write the certificate, if there is one; return whether the box has one. Raises: OSError."""
    if CERTIFICATE in files:
        write_file(folder / CERTIFICATE, files[CERTIFICATE], READABLE_BY_BOX)
    return (folder / CERTIFICATE).exists()


def withdraw_key(partition: Path, folder: Path, site: bytes) -> None:
    """Remove the key from the partition; keep the files that the flashing station needs to add the certificate.

    Raises: OSError.
    """
    names = [name for name in (SERIAL, REQUEST) if (folder / name).exists()]
    if partition.exists() and REQUEST in names:
        remaining = {name: (folder / name).read_bytes() for name in names}
        _write(partition, identity_archive.pack({**remaining, SITE: site}))


def erase_identity(partition: Path) -> None:
    """Overwrite the identity in this partition with zeros. Raises: OSError."""
    _write(partition, b"")


def _area(partition: Path) -> bytes:
    if not partition.exists():
        return b""
    with partition.open("rb") as device:
        return device.read(AREA_BYTES_MAX)


def _write(partition: Path, data: bytes) -> None:
    """Write `data`, padded with zeros, unless it is already there. The header is zero until the rest is written."""
    area = _area(partition)
    wanted = data.ljust(len(area), b"\0")
    if area == wanted:
        return
    with partition.open("r+b") as device:
        for offset, part in (
            (0, bytes(HEADER_BYTES)),
            (HEADER_BYTES, wanted[HEADER_BYTES:]),
            (0, wanted[:HEADER_BYTES]),
        ):
            device.seek(offset)
            device.write(part)
            device.flush()
            os.fsync(device.fileno())
