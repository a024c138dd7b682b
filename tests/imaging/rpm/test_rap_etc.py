"""At each start, the initramfs creates /etc, with UUIDs in fstab, and the boot loader's entry."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE
from trust.facts.system import facts
from trust.machine import Files

SCRIPT = RECIPE / "root/usr/lib/dracut/modules.d/50rap-etc/rap-etc.sh"
FSTAB = "/dev/root / ext4 ro 0 0\nPARTLABEL=var /var ext4 nodev 0 2\nPARTLABEL=log /var/log ext4 nodev 0 2\n"
_INSIDE = """\
set -e
mount -t tmpfs tmpfs /run
echo "$2" > /run/cmdline
mount --bind /run/cmdline /proc/cmdline
getarg() { sed -n "s/.*$1\\([^ ]*\\).*/\\1/p" /proc/cmdline; }
modprobe() { :; }
die() { echo "$1" >&2; exit 1; }
NEWROOT=$1
. "$3"
cat "$NEWROOT/etc/fstab" /run/rap-entries/*
"""
CMDLINE = (
    "BOOT_IMAGE=(hd0,gpt6)/boot/vmlinuz root=PARTUUID=1-2 ro rap.slot=b rap.volumes=/var=aa,/var/log=bb quiet"
)

pytestmark = pytest.mark.kernel


@pytest.fixture
def done(tmp_path: Path) -> str:
    """The created fstab and boot loader entry."""
    (etc := tmp_path / "root/etc").mkdir(parents=True)
    (etc / "fstab").write_text(FSTAB)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _INSIDE, "sh"]
    done = subprocess.run(
        [*command, etc.parent, CMDLINE, SCRIPT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (etc / "fstab").read_text() == FSTAB, "the slot was changed"
    return done.stdout


def test_file_systems_are_mounted_by_their_uuids(done: str) -> None:
    lines = done.splitlines()
    assert lines[1:3] == ["UUID=aa /var ext4 nodev 0 2", "UUID=bb /var/log ext4 nodev 0 2"]


def test_the_boot_loaders_entry_is_for_the_running_kernel(done: str) -> None:
    version = Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert "/run/rap-entries /boot/loader/entries none bind,ro,nodev,nosuid,noexec,nofail 0 0" in done
    assert f"linux /boot/vmlinuz-{version}\ninitrd /boot/initramfs-{version}.img\n" in done
    assert done.endswith("options root=PARTUUID=1-2 ro rap.slot=b rap.volumes=/var=aa,/var/log=bb quiet\n")


def test_papers_of_an_image_agree_with_the_file_systems_of_its_start(done: str, tmp_path: Path) -> None:
    fstab, _, _ = done.partition("title ")  # the boot loader's entry follows
    for name, text in (("image", FSTAB), ("box", fstab), ("changed", fstab.replace("bind,ro,", "bind,rw,"))):
        (etc := tmp_path / name / "etc").mkdir(parents=True)
        (etc / "fstab").write_text(text)
    image, box, changed = (_mounts(tmp_path / name) for name in ("image", "box", "changed"))
    assert image == box == ("/ ext4 ro", "/var ext4 nodev", "/var/log ext4 nodev")
    assert changed != image


def _mounts(root: Path) -> tuple[str, ...]:
    return next(one.values for one in facts(Files(root, runs=False)) if one.key == "system.mounts")
