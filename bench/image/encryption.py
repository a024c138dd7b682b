"""Starts of a flashed box with encrypted partitions: `python -m bench.image.encryption [--json]`. Needs root.

A box's image is written by `rap flash` with a site file that has [luks], and started in QEMU with an emulated TPM
(swtpm): the power is cut while the partitions are encrypted for the first time, and returns; the box encrypts them,
forwards a report, and after another power cut opens them by the key in its TPM. Then the disk is started without a
TPM, and on a machine with another one: both starts must end with the reason on the console. The image starts with
`fips=1` and dracut's module fips.

Needs what `make setup-image` installs, and iproute2.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, run
from tests.support.eventually import poll_until
from tests.support.imaging.flash.images import loop_device
from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.starts.emulated import Machine
from tests.support.imaging.starts.first_report import CABLES, first_report, flashed, plug_in
from tests.support.namespaces import own_network

SECONDS_MAX: Final = 1200.0
SITE: Final = "\n[luks]\n"
CUT_AT: Final = "encrypting luks-tmp"
NO_TPM: Final = "it has no TPM 2.0"
OTHER_TPM: Final = "the TPM does not release the key"
VOLUMES: Final = 7


@contextmanager
def tpm(folder: Path) -> Iterator[Path]:
    """Yield the socket of an emulated TPM 2.0, whose state is in `folder`. It ends with its machine."""
    folder.mkdir(exist_ok=True)
    socket = folder / "socket"
    command = [
        "swtpm",
        "socket",
        "--tpm2",
        "--tpmstate",
        f"dir={folder}",
        "--ctrl",
        f"type=unixio,path={socket}",
    ]
    process = subprocess.Popen([*command, "--terminate"])
    try:
        poll_until(socket.exists)
        yield socket
    finally:
        process.terminate()
        process.wait()


def start(folder: Path, disk: Path, chip: str) -> float:
    """Return the seconds from power-on to a stored report; then cut the power."""
    (folder / "reports.db").unlink(missing_ok=True)
    with own_network(), tpm(folder / chip) as socket:
        plug_in()
        machine = Machine(folder, disk, CABLES, keep=True, tpm=socket)
        try:
            return asyncio.run(first_report(folder, SECONDS_MAX)) - machine.powered_on
        except TimeoutError:
            raise RuntimeError(f"no report was stored; the console shows:\n{machine.log()[-4000:]}") from None
        finally:
            machine.stop()


def console_shows(folder: Path, disk: Path, chip: str, text: str) -> bool:
    """Return whether the console shows `text`, and cut the power. Without `chip`, there is no TPM."""
    with own_network():
        plug_in()
        if not chip:
            return _shows(Machine(folder, disk, CABLES, keep=True), text)
        with tpm(folder / chip) as socket:
            return _shows(Machine(folder, disk, CABLES, keep=True, tpm=socket), text)


def _shows(machine: Machine, text: str) -> bool:
    try:
        poll_until(lambda: text in machine.log(), SECONDS_MAX)
    except TimeoutError:
        return False
    finally:
        machine.stop()
    return True


def encrypted_partitions(disk: Path) -> int:
    """Return the number of partitions of a disk that cryptsetup detects as LUKS."""
    dump = subprocess.run(["sfdisk", "--dump", disk], check=True, capture_output=True, text=True).stdout
    starts = [
        int(line.partition("start=")[2].partition(",")[0]) for line in dump.splitlines() if "start=" in line
    ]
    count = 0
    for sector in starts:
        with loop_device(disk, 0, f"--offset={sector * 512}", "--read-only") as device:
            count += not subprocess.run(["cryptsetup", "isLuks", device], check=False).returncode
    return count


def figures() -> list[Figure]:
    """Return all figures."""
    image, key = signed_image()
    with tempfile.TemporaryDirectory(prefix="rap-encryption-", dir="/var/tmp") as name:
        folder = Path(name)
        disk = flashed(image, key, folder, SITE)
        refused = console_shows(folder, disk, "", NO_TPM)
        cut = console_shows(folder, disk, "chip", CUT_AT)
        first = start(folder, disk, "chip")
        volumes = encrypted_partitions(disk)
        again = start(folder, disk, "chip")
        refused_elsewhere = console_shows(folder, disk, "other-chip", OTHER_TPM)
    return [
        figure("partitions encrypted after the first report", "", volumes, f">= {VOLUMES}"),
        figure("a start without a TPM is refused on the console", "", refused, ">= 1"),
        figure("power cuts during encryption that the next start repaired", "", cut, ">= 1"),
        figure("a start with another TPM is refused on the console", "", refused_elsewhere, ">= 1"),
        figure("power-on to the first report, with encryption", "s", first),
        figure("power-on to a report, with the key from the TPM", "s", again),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
