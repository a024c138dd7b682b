"""An image of the box's own kickstart boots, loads the firewall before the network, and forwards a report.

The image is flashed to a larger disk, whose last file system grows. A power cut during the first start that tears a
superblock leaves a disk that the initramfs repairs; `make bench-image ONLY=cuts` starts the box after many such cuts.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from imaging.release import cpio
from imaging.release.slot_image import find_slot
from tests.support.imaging.signed_image import AUDIT_LINE, signed_image
from tests.support.imaging.small_system import need_tools
from tests.support.imaging.starts.first_report import COLLECTOR, SERIAL, UPLINK, answers
from tests.support.imaging.starts.recorded_start import (
    REPORTS,
    Life,
    audit_lines,
    flash,
    load,
    new_disk,
    record_start,
)
from tests.support.imaging.starts.start_after_cut import check_disk, inspect, owed, slot_sha256

IN_FORCE = "/etc/rap/firewall.toml: in force"

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("_only_emulated_machine")]


async def _outside_in() -> list[bool]:
    """The collector accepts connections on its port; other ports must not be reachable."""
    elsewhere = [(UPLINK, 22), (UPLINK, 443), (COLLECTOR, 22)]
    return [await answers(host, port) for host, port in [(COLLECTOR, 443), *elsewhere]]


@pytest.mark.slow("an image is built, by the first test that needs it")
def test_the_initramfs_is_not_compressed() -> None:
    """So that an update with a kernel sends only what differs in it."""
    need_tools()
    image = signed_image().image
    place = find_slot(image)
    assert place is not None
    device = f"{image}?offset={place.offset}"

    def content(path: str) -> bytes:
        words = ["debugfs", "-R", f"cat {path}", device]
        return subprocess.run(words, capture_output=True, check=True).stdout

    [path] = [line.split()[1] for line in content("/boot/slot.cfg").decode().splitlines() if "initrd" in line]
    whole = content(path)
    names = {member.name: member.end for member in cpio.members(whole)}
    assert {"init", "usr/sbin/modprobe"} <= names.keys()
    assert not whole[max(names.values()) + 1024 :].strip(b"\0")


@pytest.mark.slow("an emulated machine starts")
def test_a_flashed_image_starts_forwards_reports_and_survives_a_power_cut(tmp_path: Path) -> None:
    """One test, because the power cut needs the recording of the start."""
    need_tools()
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs qemu-system-x86_64: make setup-image")
    image = signed_image()
    disk = new_disk(tmp_path / "disk.raw", image)
    (life := Life(tmp_path / "life", SERIAL, 1)).folder.mkdir()
    flash(disk, image, life)
    answered: list[bool] = []

    async def look() -> None:
        answered.extend(await _outside_in())

    output = record_start(life, disk, look)
    assert answered == [True, False, False, False]
    assert output.index(IN_FORCE) < output.index("Starting NetworkManager.service")
    assert all(f"({name})" in output for name in ("enp1s0", "enp2s0", "enp3s0", "enp4s0", "enp5s0"))
    assert "Failed with result" not in output
    assert AUDIT_LINE in audit_lines(life.folder), (
        "rap-audit.service has read the log of root for the box program"
    )
    made = load(life)
    end = len(made.requests)
    made.cut(end, disk)
    assert list(inspect(disk)) == []
    assert len(owed(made, end)) == REPORTS
    assert check_disk(made, end, disk) == []
    # the box is provisioned and has started; its slot still has the bytes of the image
    assert slot_sha256(disk) == slot_sha256(image.image)
    tears_state = [
        index
        for index, superblocks in enumerate(made.unflushed_superblocks)
        if "var" in {superblock.label for superblock in superblocks}
    ]
    assert check_disk(made, tears_state[-1], disk, half=1) == []
