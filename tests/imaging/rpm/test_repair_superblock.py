"""The repair of ext4 superblocks that a power cut has torn, on file systems that the kernel has written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from imaging.rpm.contents import RECIPE
from sim.worlds.image.disk.recording import cut_during
from tests.support.imaging.flash.images import loop_device
from tests.support.imaging.flash.recorded_mount import need_recorder, record_mount
from tests.support.imaging.flash.torn_superblocks import UnflushedSuperblock, unflushed_superblocks

REPAIR = RECIPE / "root/usr/libexec/rap/repair-superblock"
RULES = RECIPE / "root/usr/lib/udev/rules.d/50-rap-superblock.rules"
INITRAMFS = RECIPE / "root/usr/lib/dracut/dracut.conf.d/40-rap.conf"
SKIPPED = RECIPE / "root/usr/lib/systemd/system/systemd-fsck@.service.d/10-rap.conf"
UDEV = """
mount --bind "$1" /usr/lib/udev/rules.d
number=$(stat -c '%Hr %Lr' "$2")
mount -t tmpfs none /run
mount -t tmpfs none /dev
mknod "$2" b $number
mknod /dev/null c 1 3
udevadm test --action=add "/sys/class/block/$3" > /dev/null 2>&1
find /dev -type l
"""
MIB = 1 << 20
SIZES = {"blocks of 1 KiB": 300 * MIB, "blocks of 4 KiB": 600 * MIB}
FILES = 12
NAMED = {f"folder-{number}/file": bytes([number]) * 5000 for number in range(FILES)}
WRITES_MIN = 4
TORN = "checksum does not match superblock"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def ext4(disk: Path, size: int, *options: str) -> Path:
    with disk.open("wb") as file:
        file.truncate(size)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "metadata_csum_seed", *options, disk], check=True
    )
    return disk


def copied(disk: Path, name: str) -> Path:
    to = disk.with_name(name)
    subprocess.run(["cp", "--sparse=always", disk, to], check=True)
    return to


def repair(disk: Path, number: str = "0:0") -> None:
    subprocess.run(["sh", REPAIR, disk, number], check=True)


def is_torn(disk: Path) -> bool:
    done = subprocess.run(["tune2fs", "-l", disk], capture_output=True, text=True, check=False)
    return TORN in done.stderr


def check(disk: Path, *options: str) -> int:
    """Return the exit status of e2fsck(8): 0, 1 if it has corrected something, 4 or 8 if it cannot."""
    return subprocess.run(["e2fsck", *options, disk], capture_output=True, check=False).returncode


def superblock_of(disk: Path) -> bytes:
    return disk.read_bytes()[1024:2048]


def write_at(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), data, offset)


@contextmanager
def mounted(disk: Path) -> Iterator[Path]:
    mount_point = disk.with_suffix(".mounted")
    mount_point.mkdir()
    subprocess.run(["mount", "-o", "loop", disk, mount_point], check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", mount_point], check=True)
        mount_point.rmdir()


def work(mount_point: Path) -> None:
    """Write files and flush after each; also delete open files, which the superblock's orphan list then contains."""
    for name, data in NAMED.items():
        (mount_point / name).parent.mkdir(exist_ok=True)
        (mount_point / name).write_bytes(data)
        with (mount_point / name).open("rb") as file, (mount_point / "deleted").open("wb") as deleted:
            deleted.write(data)
            (mount_point / "deleted").unlink()
            os.fsync(file.fileno())
        subprocess.run(["sync", "-f", mount_point], check=True)


def files(disk: Path) -> dict[str, bytes]:
    """Return the files after a mount, which replays the journal."""
    with mounted(disk) as mount_point:
        return {str(path.relative_to(mount_point)): path.read_bytes() for path in mount_point.rglob("file")}


@pytest.mark.kernel
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_superblock_torn_between_its_sectors_is_repaired_and_no_flushed_file_is_lost(
    tmp_path: Path, size: int
) -> None:
    """One sector of each superblock write is lost, and random other unflushed sectors; the file system in which the
    superblock is complete is the reference.
    """
    need_recorder()
    base = ext4(tmp_path / "base", size)
    requests = record_mount(tmp_path, copied(base, "disk"), work)
    tried: set[UnflushedSuperblock] = set()
    for index, written in enumerate(unflushed_superblocks(base, {1024: "disk"}, requests)):
        for superblock in set(written) - tried:
            tried.add(superblock)
            for half in (0, 1):
                disk = copied(base, "cut")
                cut_during(disk, requests, index, Random(index))
                write_at(reference := copied(disk, "reference"), superblock.offset, superblock.new)
                superblock.tear(disk, half)
                assert is_torn(disk) and check(reference, "-a") <= 1
                repair(disk)
                assert check(disk, "-a") <= 1 and check(disk, "-fn") == 0
                assert files(disk) == files(reference)
    assert len(tried) >= WRITES_MIN


@pytest.mark.kernel
@pytest.mark.parametrize("half", [0, 1])
def test_a_superblock_is_repaired_whichever_sector_is_new(tmp_path: Path, half: int) -> None:
    old, new = ext4(tmp_path / "old", SIZES["blocks of 1 KiB"]), tmp_path / "new"
    copied(old, "new")
    with mounted(new) as mount_point:
        work(mount_point)
        live = copied(new, "live")
    disk = copied(new, "disk")
    UnflushedSuperblock("disk", 1024, superblock_of(disk), superblock_of(live)).tear(disk, half)
    assert is_torn(disk) and check(disk, "-a") > 1
    repair(disk)
    assert check(disk, "-a") <= 1 and check(disk, "-fn") == 0
    assert files(disk) == NAMED


def test_a_sound_file_system_is_left_unchanged(tmp_path: Path) -> None:
    disk = ext4(tmp_path / "disk", SIZES["blocks of 1 KiB"])
    before = disk.read_bytes()
    repair(disk)
    assert disk.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"LUKS\xba\xbe"], ids=["empty", "encrypted"])
def test_a_partition_without_a_file_system_is_left_unchanged(tmp_path: Path, content: bytes) -> None:
    (disk := tmp_path / "disk").write_bytes(content + Random(1).randbytes(4 * MIB))
    before = disk.read_bytes()
    repair(disk)
    assert disk.read_bytes() == before


@pytest.mark.parametrize("offset", [0x38, 0x18], ids=["no magic number", "block size of petabytes"])
def test_a_superblock_that_is_no_mixture_of_two_is_left_unchanged(tmp_path: Path, offset: int) -> None:
    disk = ext4(tmp_path / "disk", SIZES["blocks of 1 KiB"])
    write_at(disk, 1024 + offset, b"\xff\xff")
    before = disk.read_bytes()
    repair(disk)
    assert disk.read_bytes() == before


@pytest.mark.kernel
def test_the_superblock_of_a_mounted_file_system_is_left_to_the_kernel(tmp_path: Path) -> None:
    disk = ext4(tmp_path / "disk", SIZES["blocks of 1 KiB"])
    with loop_device(disk) as device:
        rdev = Path(device).stat().st_rdev
        number = f"{os.major(rdev)}:{os.minor(rdev)}"
        (mount_point := tmp_path / "mounted").mkdir()
        subprocess.run(["mount", device, mount_point], check=True)
        try:
            before = disk.read_bytes()
            write_at(Path(device), 1024 + 0x3FC, b"torn")
            repair(Path(device), number)
            assert is_torn(Path(device))
            write_at(Path(device), 1024 + 0x3FC, before[1024 + 0x3FC : 2048])
        finally:
            subprocess.run(["umount", mount_point], check=True)
        write_at(Path(device), 1024 + 0x3FC, b"torn")
        repair(Path(device), number)
        assert not is_torn(Path(device))


def test_an_interrupted_repair_is_repeated(tmp_path: Path) -> None:
    """The repair itself writes a superblock, which a power cut can tear again."""
    disk = ext4(tmp_path / "disk", SIZES["blocks of 1 KiB"])
    write_at(disk, 1024 + 0x3FC, b"torn")
    torn = copied(disk, "torn")
    repair(disk)
    written = UnflushedSuperblock("disk", 1024, superblock_of(torn), superblock_of(disk))
    for half in (0, 1):
        again = copied(torn, "again")
        written.tear(again, half)
        assert is_torn(again)
        repair(again)
        assert check(again, "-a") <= 1 and check(again, "-fn") == 0


def test_the_initramfs_has_the_rule_and_all_programs_that_it_runs() -> None:
    """dracut does not add the programs that a rule or a shell script calls."""
    [names] = re.findall(r'^install_items\+=" (.+) "$', INITRAMFS.read_text(), re.MULTILINE)
    assert f"/{RULES.relative_to(RECIPE / 'root')}" in names.split()
    assert f"/{REPAIR.relative_to(RECIPE / 'root')}" in names.split()
    programs = re.findall(r'^PROGRAM[!=]="(\S+) ', RULES.read_text(), re.MULTILINE)
    assert len(programs) == 2 and set(programs) < set(names.split())
    used = {
        name
        for name in ("debugfs", "tune2fs", "e2fsck", "grep", "cat", "stat")
        if re.search(rf"^[^#]*\b{name}\b", REPAIR.read_text(), re.MULTILINE)
    }
    assert used == {Path(name).name for name in names.split()} - {RULES.name, REPAIR.name}


CONTENTS = {
    "clean": (True, "set_super_value state 1"),
    "clean with errors": (False, "set_super_value state 3"),
    "not clean": (False, "set_super_value state 0"),
    "not clean with errors": (False, "set_super_value state 2"),
    "with a journal to replay": (False, "feature needs_recovery"),
}


@pytest.mark.parametrize(("is_marked", "change"), CONTENTS.values(), ids=CONTENTS)
def test_udev_marks_only_clean_file_systems(tmp_path: Path, is_marked: bool, change: str) -> None:
    disk = ext4(tmp_path / "disk", 16 * MIB)
    subprocess.run(["debugfs", "-w", "-R", change, disk], check=True, capture_output=True)
    links = links_by_udev(tmp_path, disk)
    [name] = [link.name for link in links if link.parent.name == "by-uuid" and "rap-clean" not in link.parts]
    assert (Path("/dev/rap-clean/dev/disk/by-uuid", name) in links) == is_marked


@pytest.mark.parametrize("is_torn", [False, True])
def test_udev_marks_no_torn_and_no_absent_file_system(tmp_path: Path, is_torn: bool) -> None:
    disk = tmp_path / "disk"
    if is_torn:
        write_at(ext4(disk, 16 * MIB), 1200, b"torn")
    else:
        disk.write_bytes(bytes(16 * MIB))
    assert not [link for link in links_by_udev(tmp_path, disk) if "rap-clean" in link.parts]


def links_by_udev(folder: Path, disk: Path) -> set[Path]:
    """Return the links that udev creates for a disk, in a separate /dev, by the rules of the box and of systemd."""
    (rules := folder / "rules.d").mkdir()
    shutil.copy("/usr/lib/udev/rules.d/60-persistent-storage.rules", rules)
    text = RULES.read_text().replace('ENV{DEVTYPE}=="partition"', 'ENV{DEVTYPE}=="disk"')
    (rules / RULES.name).write_text(text)
    with loop_device(disk) as device:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", UDEV, "sh", rules, device, Path(device).name],
            check=True,
            capture_output=True,
            text=True,
        )
    return {Path(line) for line in done.stdout.splitlines()}


def test_the_link_that_udev_creates_skips_the_check() -> None:
    """%I is the unescaped name of the instance: dev/disk/by-uuid/UUID (systemd.unit(5))."""
    [mount_point] = re.findall(r'SYMLINK\+="(\S+)"', RULES.read_text())
    [condition] = re.findall(r"^ConditionPathExists=!(\S+)$", SKIPPED.read_text(), re.MULTILINE)
    assert condition.replace("%I", "dev/disk/by-uuid/$env{ID_FS_UUID_ENC}") == f"/dev/{mount_point}"


def test_superblocks_are_repaired_before_udev_identifies_file_systems() -> None:
    assert RULES.name < "60-persistent-storage.rules"
