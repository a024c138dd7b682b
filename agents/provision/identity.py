"""Moves a flashed box's identity from its raw partition to the box's directory.

The files are flushed to the disk before the partition is zeroed; after a power cut in between, the next start repeats
the move. The certificate is written last: the units start the box only if box.crt exists.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agents.provision.files import write_file
from settings import identity_archive

PARTITION: Final = Path("/dev/disk/by-partlabel") / identity_archive.LABEL
AREA_BYTES_MAX: Final = 1024 * 1024
"""Largest size of an identity."""
READABLE_BY_BOX: Final = 0o640


def read_identity(partition: Path) -> dict[str, bytes]:
    """The files of the identity in this partition; none if it does not exist or has been erased.

    Raises: identity_archive.IdentityError if it is damaged; OSError.
    """
    if not partition.exists():
        return {}
    with partition.open("rb") as device:
        area = device.read(AREA_BYTES_MAX)
    return identity_archive.unpack(area) if any(area[: identity_archive.HEADER_BYTES]) else {}


def install_identity(files: dict[str, bytes], folder: Path) -> None:
    """Write the files of an identity, except the site file, to the box's directory. Raises: OSError."""
    for name in sorted(
        files.keys() - {identity_archive.SITE}, key=lambda name: (name == identity_archive.CERTIFICATE, name)
    ):
        write_file(folder / name, files[name], READABLE_BY_BOX)


def erase_identity(partition: Path) -> None:
    """Overwrite the identity in this partition with zeros. Raises: OSError."""
    with partition.open("r+b") as device:
        size = min(device.seek(0, os.SEEK_END), AREA_BYTES_MAX)
        device.seek(0)
        device.write(bytes(size))
        device.flush()
        os.fsync(device.fileno())
