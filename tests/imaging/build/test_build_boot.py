"""The box's own kickstart as an image that starts: ports named, firewall before network, a report forwarded."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.support.imaging.emulated import Machine
from tests.support.imaging.first_report import (
    CABLES,
    COLLECTOR,
    UPLINK,
    answers,
    copy_for_first_start,
    first_report,
    plug_in,
)
from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.small_system import need_tools
from tests.support.namespaces import own_network

SECONDS_MAX = 300
"""A guard against hanging on a busy machine, and no measure."""
IN_FORCE = "/etc/rap/firewall.toml: in force"

pytestmark = pytest.mark.kernel


async def _outside_in() -> list[bool]:
    """The collector accepts connections on its port; other ports must not be reachable."""
    elsewhere = [(UPLINK, 22), (UPLINK, 443), (COLLECTOR.address, 22)]
    return [await answers(host, port) for host, port in [(COLLECTOR.address, COLLECTOR.port), *elsewhere]]


async def _life(folder: Path, machine: Machine) -> list[bool]:
    try:
        await first_report(folder, SECONDS_MAX)
    except TimeoutError:
        pytest.fail(f"no report was stored; the box said:\n{machine.log()[-4000:]}")
    return await _outside_in()


def test_an_image_starts_and_forwards_a_report(tmp_path: Path) -> None:
    need_tools()
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs qemu-system-x86_64: make setup-image")
    image = copy_for_first_start(signed_image().image, tmp_path)
    with own_network():
        plug_in()
        machine = Machine(tmp_path, image, CABLES)
        try:
            answered = asyncio.run(_life(tmp_path, machine))
        finally:
            machine.stop()
    assert answered == [True, False, False, False]
    said = machine.log()
    assert said.index(IN_FORCE) < said.index("Starting NetworkManager.service")
    assert all(f"({name})" in said for name in ("enp1s0", "enp2s0", "enp3s0", "enp4s0", "enp5s0"))
    assert "Failed with result" not in said
