"""The program `application` starts the box's programs from another slot, and leaves a slot that is not committed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE
from settings import slots
from settings.slots import SlotState

APPLICATION = RECIPE / "root/usr/libexec/rap/application"
SWITCHED = [
    "stop rap-box.service",
    "stop run-rapslot.mount",
    "start run-rapslot.mount",
    "--no-block restart rap-firewall.service",
    "--no-block start rap-box.service",
]
SWITCHED_BACK = [line for line in SWITCHED if line != "start run-rapslot.mount"]
RESTARTS_QUERY = "show --property=NRestarts --value rap-box.service"


class Box:
    """The files of a box that has started from slot a, and a systemctl that logs its arguments."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.request = folder, folder / "state", folder / "request"
        self.state.mkdir()
        (folder / "cmdline").write_text("root=PARTUUID=1 ro rap.slot=a quiet\n")
        self.commit("a")
        self.systemctl()

    def commit(self, slot: slots.Slot) -> None:
        """Write both copies of a slot state in which `slot` is committed."""
        content = bytearray(slots.BOOT_STATE_BYTES)
        for offset in slots.COPY_OFFSETS:
            content[offset : offset + slots.RECORD_BYTES] = slots.encode(SlotState(1, slot))
        (self.folder / "boot-state").write_bytes(content)

    def systemctl(self, restarts: int = 0, fails: str = "nothing") -> None:
        """Let systemctl report `restarts` restarts of the box program, and fail for the arguments `fails`."""
        script = f'#!/bin/sh\necho "$*" >> {self.folder}/calls\n[ "$1" != show ] || echo {restarts}\n'
        (self.folder / "systemctl").write_text(f'{script}[ "$*" != "{fails}" ]\n')
        (self.folder / "systemctl").chmod(0o755)

    def run(self, seconds_max: int = 1200) -> list[str]:
        """Run the program to its end; return the arguments of each call of systemctl."""
        (calls := self.folder / "calls").write_text("")
        arguments = [
            self.folder / name for name in ("boot-state", "cmdline", "request", "state", "systemctl")
        ]
        subprocess.run(
            ["bash", APPLICATION, *arguments],
            check=True,
            env={**os.environ, "LOOK_SECONDS": "0", "TRIAL_SECONDS_MAX": str(seconds_max)},
            capture_output=True,
        )
        return calls.read_text().splitlines()


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_the_programs_are_started_from_a_slot_that_is_committed(box: Box) -> None:
    box.request.write_text("b\n")
    box.commit("b")
    assert box.run() == SWITCHED
    assert (box.state / "device").readlink() == Path("/dev/disk/by-partlabel/root-b")
    assert not box.request.exists() and not (box.state / "left").exists()


def test_a_slot_that_is_not_committed_in_time_is_left(box: Box) -> None:
    box.request.write_text("b\n")
    assert box.run(seconds_max=0) == [*SWITCHED, RESTARTS_QUERY, *SWITCHED_BACK]
    assert (box.state / "left").read_text() == "b\n"
    assert not (box.state / "device").is_symlink()


def test_a_slot_whose_box_program_ends_repeatedly_is_left(box: Box) -> None:
    box.systemctl(restarts=9)
    box.request.write_text("b\n")
    assert box.run() == [*SWITCHED, RESTARTS_QUERY, *SWITCHED_BACK]
    assert (box.state / "left").read_text() == "b\n"


def test_the_box_program_can_request_the_former_slot(box: Box) -> None:
    box.request.write_text("b\n")
    box.commit("b")
    box.run()
    box.request.write_text("a\n")
    assert box.run() == SWITCHED_BACK
    assert not (box.state / "slot").exists()


def test_a_slot_that_cannot_be_mounted_is_not_used(box: Box) -> None:
    box.systemctl(fails="start run-rapslot.mount")
    box.request.write_text("b\n")
    assert box.run() == SWITCHED
    assert not (box.state / "slot").exists() and not (box.state / "left").exists()


def test_a_killed_program_starts_again_from_the_request(box: Box) -> None:
    box.request.write_text("b\n")
    box.commit("b")
    (box.state / "device").symlink_to("/dev/disk/by-partlabel/root-b")
    (box.state / "slot").write_text("b\n")
    assert box.run() == SWITCHED


@pytest.mark.parametrize("request_text", ["", "c\n", "../a\n"])
def test_an_invalid_request_changes_nothing(box: Box, request_text: str) -> None:
    box.request.write_text(request_text)
    assert box.run() == []
    assert not box.request.exists()


def test_a_machine_without_slots_does_nothing(box: Box) -> None:
    (box.folder / "cmdline").write_text("ro quiet\n")
    box.request.write_text("b\n")
    assert box.run() == []
