"""The real GRUB chooses slots in QEMU without acceleration: for many slot states in one start of the machine.

The script under test is that of the image's menu (`imaging.build.boot.slot_script`). The disk has one partition
`boot-state` for each state to decide, and two slots without a kernel.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from imaging.build.boot.boot_state import write_boot_state
from imaging.build.boot.bootloader import SECTOR, core_image, install_bios
from imaging.build.boot.slot_script import FUNCTIONS, SLOT_SCRIPT
from imaging.kickstart.data import MIB
from settings import slots
from settings.slots import BOOT_STATE_BYTES, COPY_OFFSETS, RECORD_BYTES, SIGNATURE, TRIES_OFFSETS, Slot
from tests.support.imaging.starts.boot_states import BootState

CHOSEN: Final = "CHOSEN"
_UUID: Final = "5b0cdd45-8b2c-4f5e-9a57-6c6b8a1f7f2e"
_BIOSBOOT, _BOOT, _SLOT_A, _SLOT_B = 1, 2, 3, 4
_FIRST_STATE: Final = 5
SLOT_NUMBERS: Final[dict[Slot, int]] = {"a": _SLOT_A, "b": _SLOT_B}
_SIZES: Final = {_BIOSBOOT: MIB, _BOOT: 4 * MIB, _SLOT_A: 4 * MIB, _SLOT_B: 4 * MIB}
_STATES_MAX: Final = 60
"""States on one disk. GRUB reads the partition table for each access, which takes long with many partitions."""
_SECONDS_MAX: Final = 600
"""Only prevents hanging; generous enough for a busy machine."""


@dataclass(frozen=True)
class Decision:
    """The slot that GRUB chose, and the copies of the tries afterwards."""

    slot: str
    tries: tuple[bytes, bytes]


def need_grub() -> None:
    """Skip the test if GRUB for BIOS or QEMU is not installed."""
    missing = [
        name for name in ("qemu-system-x86_64", "grub-mkimage", "sfdisk", "debugfs") if not shutil.which(name)
    ]
    if missing or not Path("/usr/lib/grub/i386-pc/boot.img").exists():
        pytest.skip(f"needs GRUB for BIOS {', '.join(missing)}: make setup-image")


def decide(
    folder: Path, states: Sequence[BootState], startable: Sequence[Slot] = ("a", "b")
) -> list[Decision]:
    """Return GRUB's decision for each state, with a slot script in the slots of `startable` only."""
    return [
        decision
        for first in range(0, len(states), _STATES_MAX)
        for decision in _decide(folder, states[first : first + _STATES_MAX], startable)
    ]


def wrong_decisions(folder: Path, states: Sequence[BootState]) -> list[str]:
    """Let GRUB decide each state; return the differences from `settings.slots.choose`, one line for each state."""
    decisions = decide(folder, states)
    return [
        problem
        for state, decision in zip(states, decisions, strict=True)
        if (problem := _problem(state, decision))
    ]


def _problem(state: BootState, decision: Decision) -> str:
    choice = state.choice
    if decision.slot != choice.slot:
        return f"{state}: {decision.slot} instead of {choice.slot}"
    if choice.write is None:
        return "" if decision.tries == state.tries else f"{state}: the tries were changed"
    index, record = choice.write
    number = state.state.number
    if state.tries[index].startswith(SIGNATURE) and decision.tries[index] == record:
        return ""
    before, after = slots.tries(state.tries, number), slots.tries(decision.tries, number)
    assert before is not None
    return "" if after is not None and after > before else f"{state}: the try was not counted"


def _decide(folder: Path, states: Sequence[BootState], startable: Sequence[Slot]) -> list[Decision]:
    lines = ["serial --unit=0 --speed=115200", "terminal_output serial", FUNCTIONS]
    lines += [f"set slot_a=hd0,gpt{_SLOT_A}", f"set slot_b=hd0,gpt{_SLOT_B}"]
    for number in range(_FIRST_STATE, _FIRST_STATE + len(states)):
        lines += [f"set state=hd0,gpt{number}", "choose_slot", f"echo {CHOSEN} {number - _FIRST_STATE} $slot"]
    disk = folder / "disk.raw"
    make_disk(disk, "\n".join([*lines, "halt"]), dict.fromkeys(startable, ""), states)
    chosen = dict(re.findall(rf"{CHOSEN} (\d+) (\w+)", run(folder, disk)))
    with disk.open("rb") as file:
        offsets = map(_state_offset, range(len(states)))
        return [Decision(chosen.get(str(index), ""), _tries(file, at)) for index, at in enumerate(offsets)]


def make_disk(disk: Path, menu: str, scripts: dict[Slot, str], states: Sequence[BootState]) -> None:
    """Make a disk with GRUB's menu, a script in each slot of `scripts`, and one partition for each state."""
    sizes = [*_SIZES.values(), *[BOOT_STATE_BYTES] * len(states)]
    with disk.open("wb") as file:
        file.truncate(sum(sizes) + 2 * MIB)
    table = [
        *("label: gpt", f"table-length: {max(128, len(sizes))}", "unit: sectors", "first-lba: 2048"),
        *(
            f"start={_offset(number) // SECTOR}, size={size // SECTOR}"
            for number, size in enumerate(sizes, 1)
        ),
    ]
    command = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk)]
    subprocess.run(command, input="\n".join(table) + "\n", text=True, check=True, capture_output=True)
    core, boot = core_image(Path("/"), _BOOT, MIB, disk.parent, lambda _line: None)
    with disk.open("r+b") as opened:
        install_bios(opened, core, boot, _offset(_BIOSBOOT) // SECTOR)
    _fill(disk, _BOOT, "grub2/grub.cfg", menu)
    for slot, number in SLOT_NUMBERS.items():
        _fill(disk, number, SLOT_SCRIPT if slot in scripts else "", scripts.get(slot, ""))
    if states:
        write_boot_state(disk, _state_offset(0), _UUID, 0, lambda _line: None)
    for index, state in enumerate(states):
        _write_state(disk, index, state)


def run(folder: Path, disk: Path) -> str:
    """Start a machine from the disk, wait until it halts, and return its console output."""
    console = folder / "console"
    options = "-machine q35,accel=tcg -m 128 -display none -monitor none -nic none -no-reboot"
    options += f" -serial file:{console} -drive if=virtio,format=raw,file={disk},cache=unsafe"
    subprocess.run(["qemu-system-x86_64", *options.split()], check=True, timeout=_SECONDS_MAX)
    return console.read_text("ascii", "replace")


def _offset(number: int) -> int:
    """Return the offset of a partition in bytes. The first MiB is left for the table of many partitions."""
    before = [_SIZES.get(each, BOOT_STATE_BYTES) for each in range(1, number)]
    return MIB + sum(before)


def _state_offset(index: int) -> int:
    return _offset(_FIRST_STATE + index)


def _fill(disk: Path, number: int, name: str, text: str) -> None:
    """Make the ext4 of a partition, with one file if it has a name."""
    folder = disk.with_name(f"part-{number}")
    folder.mkdir()
    if name:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^has_journal,^metadata_csum_seed"]
    command += ["-E", f"offset={_offset(number)}", "-d", str(folder), str(disk), f"{_SIZES[number] // 1024}k"]
    subprocess.run(command, check=True, capture_output=True)
    shutil.rmtree(folder)


def _write_state(disk: Path, index: int, state: BootState) -> None:
    """Write the records of a state into its partition, together with the first partition's file system metadata."""
    at = _state_offset(index)
    with disk.open("r+b") as file:
        file.seek(_state_offset(0))
        metadata = file.read(64 * 1024)
        file.seek(at)
        file.write(metadata)
        for offsets, copies in ((COPY_OFFSETS, state.copies), (TRIES_OFFSETS, state.tries)):
            for offset, copy in zip(offsets, copies, strict=True):
                file.seek(at + offset)
                file.write(copy)


def _tries(file: BinaryIO, at: int) -> tuple[bytes, bytes]:
    copies = []
    for offset in TRIES_OFFSETS:
        file.seek(at + offset)
        copies.append(file.read(RECORD_BYTES))
    return copies[0], copies[1]
