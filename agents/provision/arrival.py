"""The arrival of a flashed box's identity: out of its raw partition, into the folder that is the box's own.

The files are on the disk, flushed, before the partition is zeroed; a power cut in between repeats it at the next
start. The certificate comes last: a box has its identity when it has box.crt, as its units know.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agents.provision.files import write_file
from settings import identity_archive

PARTITION: Final = Path("/dev/disk/by-partlabel") / identity_archive.LABEL
AREA_BYTES_MAX: Final = 1024 * 1024
"""No identity is larger than this."""
READABLE_BY_BOX: Final = 0o640


def waiting(partition: Path) -> dict[str, bytes]:
    """The files of the identity that waits in this partition; none if it is not there, or was emptied.

    Raises: identity_archive.IdentityError, if it is damaged; OSError.
    """
    if not partition.exists():
        return {}
    with partition.open("rb") as device:
        area = device.read(AREA_BYTES_MAX)
    return identity_archive.unpack(area) if any(area[: identity_archive.HEADER_BYTES]) else {}


def keep(files: dict[str, bytes], folder: Path) -> None:
    """Put the files of an identity, but for the site, into the box's folder. Raises: OSError."""
    for name in sorted(
        files.keys() - {identity_archive.SITE}, key=lambda name: (name == identity_archive.CERTIFICATE, name)
    ):
        write_file(folder / name, files[name], READABLE_BY_BOX)


def empty(partition: Path) -> None:
    """Leave nothing of an identity in this partition. Raises: OSError."""
    with partition.open("r+b") as device:
        size = min(device.seek(0, os.SEEK_END), AREA_BYTES_MAX)
        device.seek(0)
        device.write(bytes(size))
        device.flush()
        os.fsync(device.fileno())
