"""Power cuts before, inside and after every operation of an update, on each of the box's devices, and kills.

After each the boot loader must start a complete release, and the update must end committed, at the cost of one range.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from hal.emul.disk import Moment
from tests.support.agents.update_box import (
    RANGE_BYTES,
    UpdateBox,
    UpdateCenter,
    operations_of,
    slot_content,
    update_center,
)
from wire.release.delta import BLOCK_BYTES
from wire.release.messages import UpdateOrder

DEVICES = ("disk", "slot a", "slot b", "boot state")
METADATA_BYTES = 8 * 1024
"""More than the metadata and the orders of an update have."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="module")
def releases(folder: Path) -> UpdateCenter:
    return update_center(folder, (1, 2))


def ordered(releases: UpdateCenter) -> UpdateCenter:
    """Return a data center that has ordered the update, and has heard nothing yet."""
    return UpdateCenter(releases.root, releases.metadata, releases.targets, UpdateOrder(7, 2))


@pytest.mark.slow("an update for each operation of each device")
@pytest.mark.parametrize("moment", get_args(Moment))
@pytest.mark.parametrize("device", range(len(DEVICES)), ids=DEVICES)
def test_a_cut_at_every_operation(releases: UpdateCenter, device: int, moment: Moment) -> None:
    whole = ordered(releases)
    operations = operations_of(UpdateBox(whole))[device]
    assert operations > 0 or DEVICES[device] == "slot a", "the update does not use this device"
    for operation in range(1, operations + 1):
        center = ordered(releases)
        box = UpdateBox(center, operation)
        box.boot_state.backend.tear_within_sectors(32)
        box.cut_power_at(device, operation, moment)
        box.run()
        where = f"{moment} operation {operation} of {DEVICES[device]}"
        assert center.outcomes == [(2, "committed", "")], where
        assert box.state.committed == "b" and box.state.trial is None, where
        assert (box.release_in("a"), box.release_in("b")) == (1, 2), where
        assert center.bytes_sent <= whole.bytes_sent + RANGE_BYTES + METADATA_BYTES, where


@pytest.mark.parametrize("moment", get_args(Moment))
def test_slots_are_written_while_they_cannot_be_started(releases: UpdateCenter, moment: Moment) -> None:
    """At every cut, slot b has nothing of its first block, without which it cannot be started, or all of the rest."""
    operations = operations_of(UpdateBox(ordered(releases)))[2]
    for operation in range(1, operations + 1):
        box = UpdateBox(ordered(releases), operation)
        box.cut_power_at(2, operation, moment)
        box.run(until=lambda: not box.has_power)  # noqa: B023
        box.switch_on()
        content = box.content("b")
        rest = [slot_content(release)[BLOCK_BYTES:] for release in (1, 2)]
        assert not any(content[:BLOCK_BYTES]) or content[BLOCK_BYTES:] in rest
