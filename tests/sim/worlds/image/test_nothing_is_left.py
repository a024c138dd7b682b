"""A lab in the image world leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sim.worlds.image.disk.client import unnamed_file
from sim.worlds.image.flash import loop_device
from sim.worlds.kernel import running
from tests.support.eventually import poll_until
from tests.support.imaging.flash.images import raw_image, sign
from tests.support.paths import ROOT
from tests.support.sim.image_lab import LAB, NAME, in_image_world

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("_machine")]

SECONDS_MAX = 120.0
"""A guard against hanging on a busy machine; not a performance target."""


def processes_of(namespace: str) -> set[str]:
    """Return the names of the programs in a PID namespace."""
    names = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str((folder / "ns/pid").readlink()) == namespace:
                names.add((folder / "comm").read_text().strip())
        except OSError:
            continue  # the process has just ended
    return names


def lab_of(runner: int) -> str:
    """Return the PID namespace of the lab that a process runs, or "" if it has not made one yet."""
    own = str(Path("/proc/self/ns/pid").readlink())
    for child in Path(f"/proc/{runner}/task").glob("*/children"):
        for pid in child.read_text().split():
            if (namespace := str(Path(f"/proc/{pid}/ns/pid").readlink())) != own:
                return namespace
    return ""


@pytest.mark.parametrize("interruption", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.slow("an image is flashed and an emulated machine starts")
def test_a_run_that_is_interrupted_leaves_nothing(tmp_path: Path, interruption: signal.Signals) -> None:
    lab = tmp_path / "small.toml"
    lab.write_text(LAB)
    image = sign(raw_image(tmp_path / "box.raw"))
    command = [sys.executable, "-m", "rap", "lab", "run", *in_image_world(lab, image)]
    runner = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        poll_until(lambda: bool(lab_of(runner.pid)), SECONDS_MAX)
        namespace = lab_of(runner.pid)
        poll_until(lambda: "qemu-system-x86" in processes_of(namespace), SECONDS_MAX)
    finally:
        runner.send_signal(interruption)
        runner.wait()
    poll_until(lambda: not processes_of(namespace))
    assert not [name for name in running() if name.startswith(NAME)]


def test_a_loop_device_is_detached_when_it_is_closed() -> None:
    disk = unnamed_file(1 << 20)
    try:
        inode = os.fstat(disk).st_ino
        with loop_device(disk) as device:
            backing = Path(f"/sys/block/{device.name}/loop/backing_file")
            assert f"#{inode}" in backing.read_text()
        poll_until(lambda: not backing.exists() or f"#{inode}" not in backing.read_text())
    finally:
        os.close(disk)


def test_the_disk_is_a_sparse_file_without_a_name() -> None:
    disk = unnamed_file(1 << 20)
    try:
        assert os.fstat(disk).st_nlink == 0
        assert os.fstat(disk).st_size == 1 << 20
        assert os.fstat(disk).st_blocks == 0
    finally:
        os.close(disk)
