"""Every mount point of an image, and the root of every file system, has the SELinux label that the policy defines."""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.small_system import need_tools

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: an image's files belong to many users")


def label(device: str, path: str) -> str:
    """Return the type in the SELinux label of a file in an ext4 file system, or "" if it has none."""
    command = ["debugfs", "-R", f"ea_get {path} security.selinux", device]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = re.search(r'"system_u:object_r:(\w+):s0\\000"', output)
    return match[1] if match else ""


@pytest.mark.slow("an image is built, by the first test that needs it")
def test_mount_points_and_roots_of_file_systems_have_labels() -> None:
    need_tools()
    image = signed_image().image
    record = json.loads(image.with_suffix(".build.json").read_text())
    parts = [part for part in record["partitions"] if part["format"] == "ext4"]
    devices = {part["mount"]: f"{image}?offset={part['offset']}" for part in parts}
    assert {"/", "/boot", "/var", "/var/log", "/var/lib/rap"} <= devices.keys()
    for mount, device in devices.items():
        assert label(device, "/") == "default_t", mount
        assert label(device, "/lost+found") == "lost_found_t", mount
    for mount in devices.keys() - {"/"}:
        outer = max((other for other in devices if mount.startswith(f"{other.rstrip('/')}/")), key=len)
        assert label(devices[outer], f"/{mount[len(outer.rstrip('/')) + 1 :]}") == "default_t", mount
    beneath = {path: label(devices["/"], path) for path in ("/proc", "/dev", "/sys", "/run")}
    assert beneath == {"/proc": "proc_t", **dict.fromkeys(("/dev", "/sys", "/run"), "default_t")}
