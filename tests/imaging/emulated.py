"""A box's image in QEMU, without acceleration, on a network of the test's own: a TAP device for each port."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PORT_SLOTS: Final = 5
"""The bus that each card is on is what its name is made of: enp1s0, enp2s0 …"""


def tap(name: str, address: str) -> None:
    """A TAP device in this thread's network namespace."""
    for words in (f"tuntap add {name} mode tap", f"address add {address} dev {name}", f"link set {name} up"):
        subprocess.run(["ip", *words.split()], check=True)


def identity_disk(file: Path, area: bytes) -> None:
    """A disk with the partition that a flashed box's identity arrives in."""
    with file.open("wb") as disk:
        disk.truncate(4 * 1024 * 1024)
        disk.seek(1024 * 1024)
        disk.write(area)
    table = "label: gpt\nstart=2048, size=4096, name=rap-identity\n"
    subprocess.run(["sfdisk", "--quiet", file], input=table, text=True, check=True, capture_output=True)


class Machine:
    """A running machine; its serial console goes to a file. The disks' own files are never changed."""

    def __init__(
        self, folder: Path, disks: list[Path], taps: Mapping[int, str], firmware: Path | None = None
    ) -> None:
        self.console = folder / "console"
        command = [
            "qemu-system-x86_64",
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            "1024",
        ]
        command += [
            "-display",
            "none",
            "-monitor",
            "none",
            "-no-reboot",
            "-snapshot",
            "-serial",
            f"file:{self.console}",
        ]
        for number, disk in enumerate(disks):
            command += ["-drive", f"if=none,id=disk{number},file={disk},format=raw"]
            command += ["-device", f"virtio-blk-pci,drive=disk{number},bus=pcie.0,addr={0x10 + number:#x}"]
        for bus in range(1, PORT_SLOTS + 1):
            command += ["-device", f"pcie-root-port,id=bus{bus},bus=pcie.0,addr={bus + 1:#x},chassis={bus}"]
            cable = (
                f"tap,id=net{bus},ifname={taps[bus]},script=no,downscript=no"
                if bus in taps
                else f"hubport,id=net{bus},hubid={bus}"
            )
            command += [
                "-netdev",
                cable,
                "-device",
                f"virtio-net-pci,netdev=net{bus},bus=bus{bus},mac=52:54:00:00:00:{bus:02x}",
            ]
        if firmware:
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={firmware}"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    async def says(self, text: str, seconds: float) -> bool:
        """Whether the console says this within so many seconds."""
        for _ in range(int(seconds / 0.2)):
            if self._process.poll() is not None or text in self.log():
                break
            await asyncio.sleep(0.2)
        return text in self.log()

    def log(self) -> str:
        return self.console.read_text("utf-8", "replace") if self.console.exists() else ""

    def stop(self) -> str:
        """End it; returns what QEMU itself complained about."""
        self._process.kill()
        _, complaint = self._process.communicate()
        return complaint.decode()
