"""`end-trial`, which leaves a release whose box program does not start, restarts the machine only during a trial."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE
from settings import slots
from settings.slots import SlotState

END_TRIAL = RECIPE / "root/usr/libexec/rap/end-trial"


def restarts(tmp_path: Path, copies: tuple[bytes, bytes], cmdline: str) -> bool:
    """Run the program on a partition with these copies of the slot state; return whether it restarts the machine."""
    content = bytearray(slots.BOOT_STATE_BYTES)
    for offset, copy in zip(slots.COPY_OFFSETS, copies, strict=True):
        content[offset : offset + len(copy)] = copy
    (partition := tmp_path / "boot-state").write_bytes(content)
    (line := tmp_path / "cmdline").write_text(cmdline)
    done = subprocess.run(
        ["bash", END_TRIAL, partition, line, "echo", "restarted"], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout.endswith("restarted\n")


COMMITTED = slots.encode(SlotState(1, "a"))
TRIAL = slots.encode(SlotState(2, "a", "b"))
TORN = TRIAL[:512] + COMMITTED[512:]


@pytest.mark.parametrize(
    ("copies", "cmdline", "expected"),
    [
        ((COMMITTED, TRIAL), "root=PARTUUID=1 ro rap.slot=b quiet\n", True),
        ((TRIAL, COMMITTED), "rap.slot=b\n", True),
        ((COMMITTED, TRIAL), "root=PARTUUID=1 ro rap.slot=a\n", False),
        ((TRIAL, slots.encode(SlotState(3, "b"))), "ro rap.slot=b\n", False),
        ((COMMITTED, TORN), "ro rap.slot=b\n", False),
        ((TRIAL, TORN), "ro rap.slot=b\n", True),
        ((bytes(1024), bytes(1024)), "ro rap.slot=b\n", False),
        ((COMMITTED, TRIAL), "ro quiet\n", False),
    ],
)
def test_only_a_slot_on_trial_is_left(
    tmp_path: Path, copies: tuple[bytes, bytes], cmdline: str, expected: bool
) -> None:
    assert restarts(tmp_path, copies, cmdline) is expected
