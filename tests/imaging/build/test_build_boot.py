"""An image of the box's own kickstart boots, loads the firewall before the network, and forwards a report.

The image is flashed to a larger disk, whose last file system grows. The box is started again after power cuts during
its first start that tear superblocks, that of the root file system too; `make bench-image ONLY=cuts` tries more.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.imaging.first_report import COLLECTOR, SERIAL, UPLINK, answers
from tests.support.imaging.recorded_start import Life, flash, load, new_disk, record_start
from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.small_system import need_tools
from tests.support.imaging.start_after_cut import check_start, inspect

IN_FORCE = "/etc/rap/firewall.toml: in force"

pytestmark = pytest.mark.kernel


async def _outside_in() -> list[bool]:
    """The collector accepts connections on its port; other ports must not be reachable."""
    elsewhere = [(UPLINK, 22), (UPLINK, 443), (COLLECTOR, 22)]
    return [await answers(host, port) for host, port in [(COLLECTOR, 443), *elsewhere]]


@pytest.mark.slow("an emulated machine starts three times")
def test_a_flashed_image_starts_forwards_reports_and_starts_again_after_power_cuts(tmp_path: Path) -> None:
    """One test, because the starts after power cuts use the recording of the first start."""
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
    made = load(life)
    made.cut(len(made.requests), disk)
    assert list(inspect(disk)) == []
    superblocks = made.unflushed_superblocks
    most = max(range(len(superblocks)), key=lambda index: len(superblocks[index]))
    roots = [index for index, each in enumerate(superblocks) if "root-a" in {one.label for one in each}]
    for half, index in enumerate((most, roots[-1])):
        assert check_start(made, index, disk, half) == []
