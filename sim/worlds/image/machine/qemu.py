"""QEMU: its requirements on this machine, its command line, and its monitor protocol (QMP)."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from sim.worlds.image.machine import actions
from sim.worlds.image.machine.serial_lines import CONSOLE

PROGRAM: Final = "qemu-system-x86_64"
Firmware: TypeAlias = Literal["bios", "uefi"]
UEFI_FILES: Final = (
    Path("/usr/share/OVMF/OVMF_CODE.fd"),
    Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
    Path("/usr/share/edk2/ovmf/OVMF_CODE.fd"),
)
"""Paths of the UEFI firmware: Debian (two), RHEL."""
MEMORY_MIB: Final = 1024
_TCG_CPU: Final = "max,-erms,-fsrm"
"""All features except fast `rep stosb`: QEMU emulates it byte by byte, and the kernel would clear pages with it."""
_KVM_CPU: Final = "host,-arch-capabilities"
_QMP_SECONDS_MAX: Final = 60.0


def uefi_file() -> Path | None:
    """Return the path of the UEFI firmware on this machine, if it is installed."""
    return next((file for file in UEFI_FILES if file.exists()), None)


def accelerator() -> str:
    """Return the accelerator named by the environment variable `RAP_QEMU_ACCELERATOR`: "tcg", the default, or "kvm".

    KVM is not chosen automatically: with nested virtualization, guests may hang although /dev/kvm works.
    """
    return os.environ.get("RAP_QEMU_ACCELERATOR", "tcg")


def lacking(firmware: Firmware) -> str:
    """Return a message about a missing requirement of QEMU on this machine, with the remedy, or ""."""
    if shutil.which(PROGRAM) is None:
        return f"{PROGRAM} is missing; install it with `make setup-image` or the package qemu-system-x86"
    if firmware == "uefi" and uefi_file() is None:
        return "the UEFI firmware for QEMU is missing; install the package ovmf (Debian) or edk2-ovmf (RHEL)"
    return ""


def command(
    accelerator: str,
    firmware: Firmware,
    folder: Path,
    disk: Path,
    devices: Sequence[str],
    clock: datetime | None = None,
) -> list[str]:
    """Return QEMU's command line.

    `disk` is the socket of an NBD server; `folder` is for the sockets of console and QMP.
    `devices` are the arguments for network cards and serial ports, of which one is the console.
    The hardware clock starts at `clock`, in UTC; the default is the true time.
    """
    cpu = _KVM_CPU if accelerator == "kvm" else _TCG_CPU
    options = f"-machine q35,accel={accelerator} -cpu {cpu} -smp 2 -m {MEMORY_MIB} -nodefaults -display none"
    base = "utc" if clock is None else f"{clock:%Y-%m-%dT%H:%M:%S}"
    options += f" -rtc base={base},clock=host -no-reboot"
    options += f" -blockdev driver=nbd,node-name=disk,server.type=unix,server.path={disk}"
    options += " -device virtio-blk-pci,drive=disk,addr=0x10,write-cache=on,werror=report,rerror=report"
    options += f" -chardev socket,id={CONSOLE},path={console_socket(folder)},server=on,wait=off"
    options += f",logfile={console_log(folder)},logappend=on"
    options += f" -qmp unix:{_qmp_socket(folder)},server=on,wait=off"
    if firmware == "uefi":
        options += f" -drive if=pflash,format=raw,readonly=on,file={uefi_file()}"
    return [PROGRAM, *options.split(), *actions.arguments(folder), *devices]


def console_socket(folder: Path) -> Path:
    """Return the socket of the serial console, for one client at a time."""
    return folder / "console.sock"


def console_log(folder: Path) -> Path:
    """Return the log of the guest's serial console, from all its boots."""
    return folder / "console.log"


def _qmp_socket(folder: Path) -> Path:
    return folder / "qmp.sock"


class Monitor:
    """A connection to a running QEMU (QEMU Machine Protocol)."""

    def __init__(self, folder: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(_QMP_SECONDS_MAX)
        self._connection.connect(str(_qmp_socket(folder)))
        self._lines = self._connection.makefile("rb")
        self._lines.readline()  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """Execute a command and return its result. Raises: OSError, RuntimeError."""
        text = json.dumps({"execute": command, "arguments": arguments})
        self._connection.sendall(text.encode() + b"\n")
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise ConnectionResetError("QEMU has ended")

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._lines.close()
            self._connection.close()
