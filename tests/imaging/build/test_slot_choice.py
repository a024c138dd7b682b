"""The real GRUB chooses the same slot as `settings.slots.choose`, whatever an interrupted write or damage leaves.

The tests use a part of these states; `python -m bench.image --only slots` uses all.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from imaging.build.boot.slot_script import ARGUMENTS, FUNCTIONS
from settings import slots
from settings.slots import SlotState
from tests.support.imaging.starts import boot_states
from tests.support.imaging.starts.boot_states import BootState, update
from tests.support.imaging.starts.grub import SLOT_NUMBERS, decide, make_disk, need_grub, run, wrong_decisions

DAMAGED = 40
"""The size of the sample of states with a destroyed copy."""


@pytest.fixture(autouse=True)
def _grub() -> None:
    need_grub()


@pytest.mark.slow("two emulated machines start")
def test_grub_chooses_the_correct_slot_wherever_a_write_of_an_update_was_cut(tmp_path: Path) -> None:
    steps = update(boot_states.new(SlotState(9, "a")), slots.TRIES_MAX, healthy=True)
    steps += update(boot_states.new(SlotState(9, "b")), 1, healthy=False)
    states = boot_states.distinct(steps)
    assert {state.choice.slot for state in states} == {"a", "b"}
    assert wrong_decisions(tmp_path, states) == []


@pytest.mark.slow("an emulated machine decides dozens of states")
def test_grub_chooses_the_correct_slot_if_a_copy_is_destroyed(tmp_path: Path) -> None:
    steps = update(boot_states.new(SlotState(9, "a")), slots.TRIES_MAX, healthy=True)
    damaged = [each for step in steps for state in step.conditions for each in state.damaged()]
    states = Random(1).sample(damaged, DAMAGED)
    assert wrong_decisions(tmp_path, states) == []


def test_grub_starts_slot_a_if_all_records_are_destroyed(tmp_path: Path) -> None:
    lost = (bytes(slots.RECORD_BYTES), b"\xff" * slots.RECORD_BYTES)
    (decision,) = decide(tmp_path, [BootState(lost, lost)])
    assert decision.slot == "a"


def test_grub_does_not_start_a_slot_without_a_kernel(tmp_path: Path) -> None:
    begun = update(boot_states.new(SlotState(9, "a")), 0, healthy=True)[2].conditions[-1]
    assert begun.choice.slot == "b"
    (decision,) = decide(tmp_path, [begun], ["a"])
    assert (decision.slot, decision.tries) == ("a", begun.tries)


def test_grub_starts_the_other_slot_if_the_committed_one_has_no_kernel(tmp_path: Path) -> None:
    (decision,) = decide(tmp_path, [boot_states.new(SlotState(9, "a"))], ["b"])
    assert decision.slot == "b"


@pytest.mark.parametrize("slot", ["a", "b"])
def test_the_kernel_gets_the_name_of_the_slot_it_starts_from(tmp_path: Path, slot: slots.Slot) -> None:
    """`end-trial` reads it from the kernel's command line to leave a release whose program does not start."""
    menu = ["serial --unit=0 --speed=115200", "terminal_output serial", FUNCTIONS]
    menu += [
        f"set slot_{slot}=hd0,gpt{SLOT_NUMBERS[slot]}",
        f"set partuuid_{slot}=1-2",
        f"set slot={slot}",
        "start_slot",
    ]
    disk = tmp_path / "disk"
    make_disk(disk, "\n".join(menu), {slot: f"echo ${ARGUMENTS}\nhalt\n"}, ())
    assert f"root=PARTUUID=1-2 ro rap.slot={slot} " in run(tmp_path, disk)
