"""Checks of an image and a lab for the image world, made before anything is created."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imaging.flash.source import open_image
from imaging.media.imagefile import ImageError
from imaging.signing import ARCHITECTURE, ARCHITECTURE_KEY, SigningError, load_public_key
from settings.problems import Problem, SettingsError
from sim.faults import AnyFault
from sim.faults.box.clock_jump import ClockJump
from sim.lab.labfile import Lab
from sim.lab.standards import serial_ports
from sim.proxies.kind import proxy_kind
from sim.worlds.image.inside import clock_step_problem
from sim.worlds.image.machine import qemu
from sim.worlds.image.machine.serial_lines import UARTS, uart_of
from sim.worlds.image.machine.slots import BUSES_MAX, interfaces, slot_of
from sim.worlds.kernel.namespaces.missing import MachineLacksError, require
from sim.worlds.shared.refusals import ImageRefused

KEY: Final = Path("/etc/rap/image-signing.pub")
"""The path of the public key for verifying images on installers' stations."""
MIB: Final = 1 << 20


def check_lab(lab: Lab, firmware: qemu.Firmware) -> None:
    """Check that the lab can run in this world and on this machine. Raises: SettingsError, MachineLacksError."""
    problems = [*_wrong_ports(lab), *_wrong_lines(lab), *_wrong_events(lab)]
    if problems:
        raise SettingsError(lab.path, *dict.fromkeys(problems))
    proxy = lab.uplink.proxy
    require(proxy_kind(proxy.kind).packages if proxy else None)
    if lacks := qemu.lacking(firmware):
        raise MachineLacksError(lacks)


def _wrong_ports(lab: Lab) -> Iterator[Problem]:
    for interface in interfaces(lab.board):
        if slot_of(interface) is None:
            yield Problem(
                "box.board",
                f"{lab.board.name} has the interface {interface}, which QEMU cannot emulate; "
                f"supported are eno1 to eno9, and enp1s0 to enp{BUSES_MAX}s0 with functions f0 to f7",
            )


def _wrong_lines(lab: Lab) -> Iterator[Problem]:
    devices = [lab.board.serial_ports[number] for number in serial_ports(lab.instruments, lab.board).values()]
    for device in devices:
        if uart_of(device) is None:
            yield Problem(
                "box.board",
                f"{lab.board.name} has the serial port {device}, which QEMU cannot emulate; "
                f"supported are /dev/ttyS0 to /dev/ttyS{UARTS - 1}",
            )
    if len(devices) >= UARTS:
        yield Problem(
            "instrument.model",
            f"{len(devices)} instruments have serial lines; QEMU has {UARTS} serial ports, one of them the console",
        )


def _wrong_events(lab: Lab) -> Iterator[Problem]:
    for event in lab.events:
        if why := why_no_fault(type(event.fault), event.target, lab):
            yield Problem("event.fault", f"{event.fault.kind} {why}; run it in another world")
        if isinstance(event.fault, ClockJump) and (why := clock_step_problem(event.fault.step_ns)):
            yield Problem("event.by", f"clock-jump {why}")


def why_no_fault(kind: type[AnyFault], target: str, lab: Lab) -> str:
    """Return why a fault of that kind is impossible in this world, or ""; an empty target stands for any target."""
    if kind.emulated and not kind.of_machine:
        return "needs emulated hardware, which only the virtual world has"
    fixed = {"uplink"} if lab.uplink.proxy else {"uplink", "datacenter"}
    if kind.kind == "address-changes" and target in fixed:
        return "changes an address that is fixed by the site file of a flashed box"
    return ""


def check_image(image: Path, key: Path, disk_bytes: int) -> int:
    """Verify the image's signature and map; return the size of the lab's disk. Raises: ImageRefused."""
    try:
        with open_image(image, load_public_key(key)) as opened:
            needed = opened.bmap.image_bytes
            architecture = opened.manifest.about.get(ARCHITECTURE_KEY, ARCHITECTURE)
    except (ImageError, SigningError) as error:
        raise ImageRefused(
            f"{error}; `rap image build --key PRIVATE` makes signed images, --key names the public key"
        ) from None
    if architecture != ARCHITECTURE:
        raise ImageRefused(
            f"{image}: the image is for {architecture} machines; the image world emulates {ARCHITECTURE}: "
            f"give an image for {ARCHITECTURE}"
        )
    if disk_bytes and disk_bytes < needed:
        raise ImageRefused(
            f"--disk-bytes {disk_bytes:,}: too small: the image needs {needed:,} bytes; give at least as many"
        )
    return -(-(disk_bytes or needed) // MIB) * MIB
