"""The slot of a built image, checked by rpm and SELinux's setfiles, like an installed system."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.imaging.signed_image import signed_image
from tests.support.imaging.small_system import need_tools

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a slot is mounted"),
    pytest.mark.slow("an image is built, by the first test that needs it"),
]
ELSEWHERE = re.compile(r" /(etc|var|run)(/|$)")
"""Files that belong to the site, to other partitions or to the running system."""
OF_MOCK_REPOSITORY = re.compile(r" /(usr/lib/dbus-1\.0/|boot/(System\.map|config|vmlinuz)-)")
"""Files that scripts of the mock repository change, and the kernel in /boot, which RHEL's packages do not own."""
LABELS = """\
mount --bind "$1" "$1"
mount -t tmpfs run "$1/run"
mount --bind /dev "$1/dev"
mount -t proc proc "$1/proc"
mkdir "$1/run/tree"
mount --bind "$1" "$1/run/tree"
sed "$2" "$1/etc/selinux/targeted/contexts/files/file_contexts" > "$1/run/contexts"
exec chroot "$1" setfiles -n -v -F -r /run/tree /run/contexts /run/tree
"""


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Slot a of the image, mounted read-only."""
    need_tools()
    image = signed_image().image
    parts = json.loads(image.with_suffix(".build.json").read_text())["partitions"]
    part = next(part for part in parts if part["mount"] == "/")
    mount_point = tmp_path_factory.mktemp("slot")
    options = f"ro,noload,loop,offset={part['offset']},sizelimit={part['length']}"
    subprocess.run(["flock", "/dev/loop-control", "mount", "-o", options, image, mount_point], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", mount_point], check=True)


def relabelled(slot: Path, change: str = "") -> list[str]:
    """Return a line for each file whose label differs from the policy after the sed(1) script `change`."""
    command = ["unshare", "--mount", "sh", "-e", "-c", LABELS, "sh", str(slot), change]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line for line in (done.stdout + done.stderr).splitlines() if "elabel" in line]


def test_every_file_has_the_label_of_the_policy(slot: Path) -> None:
    assert relabelled(slot) == []
    assert len(relabelled(slot, "s/:usr_t:/:other_t:/")) > 1000, "setfiles compares nothing"


def test_rpm_finds_no_file_that_differs_from_its_package(slot: Path) -> None:
    command = ["rpm", "--root", str(slot), "--dbpath", "/usr/lib/sysimage/rpm", "-Va"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    differences = [line for line in done.stdout.splitlines() if not ELSEWHERE.search(line)]
    assert [line for line in differences if not OF_MOCK_REPOSITORY.search(line)] == []
    assert any(" /etc/" in line for line in done.stdout.splitlines()), (
        "rpm must report the site's files, which differ from their packages"
    )
    assert not done.stderr


def test_the_slot_contains_no_folder_of_the_build_machine(slot: Path) -> None:
    known = "bin boot dev etc home lib lib64 lost+found mnt proc root run sbin slots sys tmp usr var"
    assert {path.name for path in slot.iterdir()} <= set(known.split())
