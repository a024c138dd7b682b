"""A box's image in QEMU, without acceleration; connected ports are TAP devices of this thread's network namespace."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.eventually import poll_until

PORT_SLOTS: Final = 5
"""Network cards, each on a separate PCI bus, so that the interfaces are named enp1s0, enp2s0 …"""
CPU: Final = "max,-erms,-fsrm"
"""All features except those for which the kernel clears pages with `rep stosb`, which QEMU emulates byte by byte."""


def tap(name: str, address: str) -> None:
    """Make a TAP device in this thread's network namespace."""
    for arguments in (
        f"tuntap add {name} mode tap",
        f"address add {address} dev {name}",
        f"link set {name} up",
    ):
        subprocess.run(["ip", *arguments.split()], check=True)


class Machine:
    """A running machine, whose serial console is written to a file.

    `disk` is an image, or the socket of an NBD server. An image is changed only with `keep`; the server gets all
    writes. `taps` has the TAP device of each connected port by its bus; `tpm` is the socket of swtpm; `more` are
    further options of QEMU.
    """

    def __init__(
        self,
        folder: Path,
        disk: Path,
        taps: Mapping[int, str],
        firmware: Path | None = None,
        *,
        keep: bool = False,
        tpm: Path | None = None,
        more: Sequence[str] = (),
    ) -> None:
        self._console = folder / "console"
        # else `log` returns the former machine's output until QEMU replaces the file
        self._console.unlink(missing_ok=True)
        options = f"-machine q35,accel=tcg -cpu {CPU} -smp 2 -m 1024 -display none -monitor none"
        if tpm:
            options += f" -chardev socket,id=tpm,path={tpm} -tpmdev emulator,id=tpm0,chardev=tpm"
            options += " -device tpm-crb,tpmdev=tpm0"
        options += f" -serial file:{self._console}"
        served = disk.is_socket()
        file = f"nbd+unix:///?socket={disk}" if served else disk
        snapshot = "off" if keep or served else "on"
        # only the NBD server needs the guest's flushes: a file keeps all writes even when QEMU is killed
        cache = "writeback" if served else "unsafe"
        options += f" -drive if=none,id=disk,file={file},format=raw,snapshot={snapshot},cache={cache}"
        options += " -device virtio-blk-pci,drive=disk,addr=0x10"
        for bus in range(1, PORT_SLOTS + 1):
            options += " " + _port(bus, taps.get(bus))
        if firmware:
            options += f" -drive if=pflash,format=raw,readonly=on,file={firmware}"
        self.powered_on = time.monotonic()
        command = ["qemu-system-x86_64", *options.split(), *more]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def log(self) -> str:
        """Return the console's output so far."""
        return self._console.read_text("utf-8", "replace") if self._console.exists() else ""

    def stop(self) -> str:
        """Kill the machine and return QEMU's error output."""
        self._process.kill()
        return self._process.communicate()[1]


def _port(bus: int, cable: str | None) -> str:
    """Return QEMU's options for a card on a separate bus, connected to a TAP device or unconnected."""
    slot = f"-device pcie-root-port,id=bus{bus},bus=pcie.0,addr={bus + 1:#x},chassis={bus}"
    card = f"-device virtio-net-pci,bus=bus{bus},mac=52:54:00:00:00:{bus:02x}"
    if cable is None:
        return f"{slot} {card}"
    return f"{slot} -netdev tap,id=net{bus},ifname={cable},script=no,downscript=no {card},netdev=net{bus}"


@contextmanager
def software_tpm(folder: Path) -> Iterator[Path]:
    """Emulate a TPM 2.0 for programs of this machine; yield its socket. Skip the test if a program is missing."""
    if missing := [
        name for name in ("swtpm", "clevis", "tpm2_pcrextend", "cryptsetup") if not shutil.which(name)
    ]:
        pytest.skip(f"needs {', '.join(missing)}: make setup-image")
    folder.mkdir()
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"]
    command += ["--flags", "startup-clear,not-need-init"]
    command += ["--server", f"type=unixio,path={folder}/s", "--ctrl", f"type=unixio,path={folder}/s.ctrl"]
    process = subprocess.Popen(command)
    try:
        poll_until((folder / "s.ctrl").exists)
        yield folder / "s"
    finally:
        process.terminate()
        process.wait()
