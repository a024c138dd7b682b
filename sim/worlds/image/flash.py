"""Flashing of a lab's disk with `rap flash write`, and with `rap flash identity` for its certificate."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imaging.kickstart.site import Site
from settings.toml import dumps
from sim.worlds.kernel.namespaces.missing import MachineLacksError
from sim.worlds.shared.refusals import ImageRefused
from sim.worlds.shared.site.addresses import BOX_SERIAL
from sim.worlds.shared.site.certificates import LabCertificates

_WRONG_INPUT, _MACHINE_LACKS = 2, 3
_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
_LO_FLAGS_AUTOCLEAR: Final = 4
_CONFIG: Final = struct.Struct("=II 52x I 240x")
"""struct loop_config of <linux/loop.h>: the file, the sector size and the flags; the rest is zero."""
_TRIES: Final = 20


@contextmanager
def loop_device(fd: int) -> Iterator[Path]:
    """Attach an open file to a loop device, which the kernel detaches when it is closed everywhere (loop(4))."""
    for _ in range(_TRIES):
        with open("/dev/loop-control", "rb") as control:  # noqa: PTH123
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
        path = Path(f"/dev/loop{number}")
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _LOOP_CONFIGURE, _CONFIG.pack(fd, 512, _LO_FLAGS_AUTOCLEAR))
            yield path
            return
        except OSError as error:
            if error.errno != errno.EBUSY:  # another process has taken it meanwhile
                raise
        finally:
            os.close(device)
    raise MachineLacksError("no loop device is free; `losetup --list` shows which files are attached")


def flash(
    image: Path,
    key: Path,
    disk: int,
    site_file: Site,
    certificates: LabCertificates,
    folder: Path,
    *,
    is_expired: bool = False,
) -> None:
    """Write the image with the site and the box's identity to the open file `disk`; records go to `folder`.

    With `is_expired`, its certificate expired two years ago.

    Raises: ImageRefused, MachineLacksError.
    """
    folder.mkdir(exist_ok=True)
    site = folder / "site.toml"
    site.write_text(dumps(site_file))
    request, record = folder / "box.csr", folder / "flash.json"
    with loop_device(disk) as device:
        identity = ("--box", BOX_SERIAL, "--site", site, "--csr", request, "--serial", device.name)
        _rap_flash("write", image, device, "--key", key, *identity, "--record", record)
        issued, trusted = certificates.box_of_request(request, is_expired=is_expired), certificates.box()
        authorities = (
            "--vendor-ca",
            trusted.vendor_authority,
            "--datacenter-root",
            trusted.datacenter_authority,
        )
        _rap_flash("identity", device, "--certificate", issued, *authorities)


def _rap_flash(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "rap", "flash", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    message = result.stderr.strip().removeprefix("rap: ")
    if result.returncode == _WRONG_INPUT:
        raise ImageRefused(message)
    if result.returncode == _MACHINE_LACKS:
        raise MachineLacksError(message)
    if result.returncode:
        raise RuntimeError(f"rap flash {arguments[0]} ended with status {result.returncode}: {message}")
