"""Power cuts before, inside and after every operation of an update, on each of the box's devices.

After each cut the boot loader must start a complete release, and the update must be committed in the end. At most
one range is fetched twice.
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
"""Upper bound for the metadata and the orders of an update."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("releases")


@pytest.fixture(scope="module")
def releases(folder: Path) -> UpdateCenter:
    return update_center(folder, (1, 2))


def ordered(releases: UpdateCenter) -> UpdateCenter:
    """Return a data center that has ordered the update, and has received no state of the box."""
    return UpdateCenter(releases.root, releases.metadata, releases.targets, UpdateOrder(7, 2))


@pytest.mark.slow("an update for each operation of each device")
@pytest.mark.parametrize("moment", get_args(Moment))
@pytest.mark.parametrize("device", range(len(DEVICES)), ids=DEVICES)
def test_a_cut_at_every_operation(releases: UpdateCenter, device: int, moment: Moment) -> None:
    uninterrupted = ordered(releases)
    operations = operations_of(UpdateBox(uninterrupted))[device]
    assert operations > 0 or DEVICES[device] == "slot a", "the update does not use this device"
    for operation in range(1, operations + 1):
        center = ordered(releases)
        box = UpdateBox(center, operation)
        box.boot_state.backend.tear_within_sectors(32)
        box.cut_power_at(device, operation, moment)
        box.run()
        cut = f"{moment} operation {operation} of {DEVICES[device]}"
        assert center.outcomes == [(2, "committed", "")], cut
        assert box.state.committed == "b" and box.state.trial is None, cut
        assert (box.release_in("a"), box.release_in("b")) == (1, 2), cut
        assert center.bytes_sent <= uninterrupted.bytes_sent + RANGE_BYTES + METADATA_BYTES, cut


@pytest.mark.parametrize("moment", get_args(Moment))
def test_a_slot_cannot_be_started_while_it_is_written(releases: UpdateCenter, moment: Moment) -> None:
    """After every cut, slot b has either no first block, without which it cannot be started, or all other blocks."""
    operations = operations_of(UpdateBox(ordered(releases)))[2]
    for operation in range(1, operations + 1):
        box = UpdateBox(ordered(releases), operation)
        box.cut_power_at(2, operation, moment)
        box.run(until=lambda: not box.has_power)  # noqa: B023
        box.switch_on()
        content = box.content("b")
        rest = [slot_content(release)[BLOCK_BYTES:] for release in (1, 2)]
        assert not any(content[:BLOCK_BYTES]) or content[BLOCK_BYTES:] in rest
