"""QEMU: what it needs of this machine, its command line, and orders to it while it runs (QMP)."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

PROGRAM: Final = "qemu-system-x86_64"
PACKAGES: Final = {PROGRAM: "qemu-system-x86"}
"""The program with the Debian package that has it."""
Firmware: TypeAlias = Literal["bios", "uefi"]
UEFI_FILES: Final = (
    Path("/usr/share/OVMF/OVMF_CODE.fd"),
    Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
    Path("/usr/share/edk2/ovmf/OVMF_CODE.fd"),
)
"""Where distributions have the UEFI firmware: Debian twice, RHEL."""
MEMORY_MIB: Final = 1024
_TCG_CPU: Final = "max,-erms,-fsrm"
"""All that QEMU can emulate but `rep stosb`: it does that byte by byte, and the kernel clears every page with it."""
_KVM_CPU: Final = "host,-arch-capabilities"
_QMP_SECONDS_MAX: Final = 10.0


def uefi_file() -> Path | None:
    """The UEFI firmware of this machine."""
    return next((file for file in UEFI_FILES if file.exists()), None)


def accelerator() -> str:
    """The accelerator that `RAP_QEMU_ACCELERATOR` names: "tcg", the default, or "kvm".

    It is not chosen by /dev/kvm: with nested virtualization a guest may stop early although the firmware runs.
    """
    return os.environ.get("RAP_QEMU_ACCELERATOR", "tcg")


def lacking(firmware: Firmware) -> str:
    """What this machine lacks for QEMU, with the remedy, or ""."""
    if shutil.which(PROGRAM) is None:
        return f"the program {PROGRAM} is missing; `make setup-image` or the package qemu-system-x86 gives it"
    if firmware == "uefi" and uefi_file() is None:
        return "the UEFI firmware for QEMU is missing; the package ovmf (Debian) or edk2-ovmf (RHEL) gives it"
    return ""


def command(
    accelerator: str, firmware: Firmware, folder: Path, disk: Path, cards: Sequence[str]
) -> list[str]:
    """QEMU's command line. `disk` is an NBD server's socket; the console and QMP are sockets in `folder`."""
    cpu = _KVM_CPU if accelerator == "kvm" else _TCG_CPU
    words = f"-machine q35,accel={accelerator} -cpu {cpu} -smp 2 -m {MEMORY_MIB} -nodefaults -display none"
    words += " -rtc base=utc,clock=host -no-reboot"
    words += f" -blockdev driver=nbd,node-name=disk,server.type=unix,server.path={disk}"
    words += " -device virtio-blk-pci,drive=disk,addr=0x10,write-cache=on,werror=report,rerror=report"
    words += f" -chardev socket,id=console,path={console_socket(folder)},server=on,wait=off"
    words += f",logfile={console_log(folder)},logappend=on -serial chardev:console"
    words += f" -qmp unix:{_qmp_socket(folder)},server=on,wait=off"
    if firmware == "uefi":
        words += f" -drive if=pflash,format=raw,readonly=on,file={uefi_file()}"
    return [PROGRAM, *words.split(), *cards]


def console_socket(folder: Path) -> Path:
    """The socket of the serial console, for one client at a time."""
    return folder / "console.sock"


def console_log(folder: Path) -> Path:
    """The file with all that the guest wrote to its serial console, in all its lives."""
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

    def execute(self, order: str, **arguments: object) -> Any:
        """Execute a command and return its result. Raises: OSError, RuntimeError."""
        text = json.dumps({"execute": order, "arguments": arguments})
        self._connection.sendall(text.encode() + b"\n")
        while line := self._lines.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"QEMU: {order}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise ConnectionResetError("QEMU has ended")

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._lines.close()
            self._connection.close()
