"""Two disks flashed from one image, and two flashes of one disk, share no identifiers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from imaging import signing
from imaging.flash.plan import make_plan
from imaging.flash.source import Image, open_image
from imaging.flash.write import flash
from imaging.media.imagefile import ImageError
from tests.support.imaging.flash.images import (
    MIB,
    PARTS,
    MemoryDisk,
    guids,
    loop_device,
    public_key,
    rap,
    raw_image,
    sign,
)
from tests.support.imaging.small_system import small_image
from tests.support.imaging.starts.start_after_cut import slot_sha256

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices and images need root")
LIFE_FILES = 40
"""Synchronized files after the first flash: more than after the second (`CUTS`), so that old transactions remain."""
CUTS = 20


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_image(tmp_path_factory)


@pytest.fixture
def opened(image: Path) -> Iterator[Image]:
    with open_image(image, public_key(image)) as opened:
        yield opened


def flashed(image: Path, disk: Path, extra_bytes: int = 0) -> Path:
    """Flash a disk, a file of the image's size and `extra_bytes` that may have former contents."""
    with disk.open("ab") as file:
        file.truncate(image.stat().st_size + extra_bytes)
    with loop_device(disk) as device:
        record = disk.with_name(f"{disk.name}-{len(list(disk.parent.iterdir()))}.json")
        options = ["--key", image.with_name("key.pub"), "--serial", Path(device).name, "--record", record]
        rap("flash", "write", image, device, *options)
    return disk


def tool(*command: object) -> str:
    """Run a program; return its output."""
    arguments = [str(argument) for argument in command]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def table(disk: Path) -> list[dict[str, object]]:
    """Return the partitions of a disk as sfdisk reads them, after it verified both tables."""
    tool("sfdisk", "--verify", disk)
    partitions: list[dict[str, object]] = json.loads(tool("sfdisk", "--json", disk))["partitiontable"][
        "partitions"
    ]
    return partitions


@contextmanager
def partition(disk: Path, name: str) -> Iterator[str]:
    """Yield a loop device of the partition with this name."""
    part = next(part for part in table(disk) if part.get("name") == name)
    offset, length = int(str(part["start"])) * 512, int(str(part["size"])) * 512
    with loop_device(disk, 0, f"--offset={offset}", f"--sizelimit={length}") as device:
        yield device


@contextmanager
def mounted(device: str, folder: Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    tool("mount", device, folder)
    try:
        yield folder
    finally:
        tool("umount", folder)


NAMES = ("ESP", "/boot", "/var")


def identifiers(disk: Path) -> dict[str, str]:
    """Return the identifiers of a disk, of its partitions and of their file systems."""
    result = {f"partition {part['node']}"[-12:]: str(part["uuid"]) for part in table(disk)}
    result["disk"] = json.loads(tool("sfdisk", "--json", disk))["partitiontable"]["id"]
    for name in NAMES:
        with partition(disk, name) as device:
            result[name] = tool("blkid", "-p", "-o", "value", "-s", "UUID", device).strip()
    return result


@pytest.mark.slow("an image is built")
def test_two_disks_of_an_image_share_no_identifier(image: Path, tmp_path: Path) -> None:
    disks = [image, flashed(image, tmp_path / "one"), flashed(image, tmp_path / "two")]
    drawn = [set(identifiers(disk).values()) for disk in disks]
    assert len(drawn[0]) == 11
    assert not drawn[0] & drawn[1]
    assert not drawn[0] & drawn[2]
    assert not drawn[1] & drawn[2]


def test_a_flashed_disk_refers_to_its_own_file_systems(image: Path, tmp_path: Path) -> None:
    disk = flashed(image, tmp_path / "disk")
    own = identifiers(disk)
    texts = {}
    with partition(disk, "ESP") as device:
        tool("fsck.vfat", "-n", device)
        texts["ESP"] = tool("mtype", "-i", device, "::/EFI/BOOT/grub.cfg")
    for name, files in (("/boot", ("grub2/grub.cfg", "loader/entries/rap-1.0.conf")),):
        with partition(disk, name) as device:
            tool("e2fsck", "-fn", device)
            for file in files:
                texts[file] = tool("debugfs", "-R", f"cat /{file}", device)
    with partition(disk, "/var") as device:
        tool("e2fsck", "-fn", device)
    parts = {part["name"]: str(part["uuid"]).lower() for part in table(disk)}
    root, identity = parts["root-a"], parts["rap-identity"]
    uuids = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9A-F]{4}-[0-9A-F]{4}"
    named = {file: set(re.findall(uuids, text)) for file, text in texts.items()}
    assert named == {
        "ESP": {own["/boot"]},
        "grub2/grub.cfg": {own["ESP"], own["/boot"], own["/var"], root, identity},
        "loader/entries/rap-1.0.conf": {root},
    }


def test_a_slot_has_the_same_bytes_on_all_disks(image: Path, tmp_path: Path) -> None:
    """This includes used disks, and the free space of the file system."""
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xff" * image.stat().st_size)
    flashed(image, disk)
    assert slot_sha256(disk) == slot_sha256(image)


def test_copies_of_the_superblock_have_the_same_uuid(image: Path, tmp_path: Path) -> None:
    disk = flashed(image, tmp_path / "disk", 512 * MIB)
    own = identifiers(disk)
    with partition(disk, "/var") as device:
        block_bytes = int(re.findall(r"Block size:\s+(\d+)", tool("dumpe2fs", "-h", device))[0])
        for block in re.findall(r"Backup superblock at (\d+)", tool("dumpe2fs", device)):
            output = tool(
                "dumpe2fs", "-h", "-o", f"superblock={block}", "-o", f"blocksize={block_bytes}", device
            )
            assert own["/var"] in output


def test_the_last_partition_grows_to_the_disk(image: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(image.stat().st_size + 64 * MIB)
        file.seek(-2 * MIB, os.SEEK_END)
        file.write(b"\xff" * MIB)  # like RAID metadata, at the end of the grown partition
    flashed(image, disk, 64 * MIB)
    before, after = table(image)[-1], table(disk)[-1]
    assert after["name"] == "/var"
    assert int(str(after["size"])) - int(str(before["size"])) == 64 * MIB // 512
    with partition(disk, "/var") as device:
        with open(device, "rb") as file:  # noqa: PTH123 - a device
            file.seek(-MIB, os.SEEK_END)
            assert not any(file.read())
        tool("e2fsck", "-fp", device)
        tool("resize2fs", device)
        with mounted(device, tmp_path / "var") as folder:
            assert os.statvfs(folder).f_frsize * os.statvfs(folder).f_blocks > 64 * MIB
    with partition(disk, "root-a") as device:
        lines = tool("debugfs", "-R", "cat /etc/fstab", device).splitlines()
    assert [line.split()[1] for line in lines if "x-systemd.growfs" in line] == ["/var"]


def test_the_journal_of_an_earlier_flash_is_never_replayed(image: Path, tmp_path: Path) -> None:
    """The power is cut after each file that is synchronized after the second flash, like those after the first."""
    disk = flashed(image, tmp_path / "disk")
    for life, count in ((1, LIFE_FILES), (2, CUTS)):
        if life == 2:
            flashed(image, disk)
        with partition(disk, "/var") as device, mounted(device, tmp_path / "var") as folder:
            for number in range(1, count + 1):
                (subfolder := folder / f"d{number}").mkdir()
                with (subfolder / "file").open("w") as file:
                    file.write(f"life {life}")
                    file.flush()
                    os.fsync(file.fileno())
                if life == 2:
                    tool(
                        "dd",
                        f"if={device}",
                        f"of={tmp_path}/cut{number}",
                        "bs=1M",
                        "conv=sparse",
                        "status=none",
                        "iflag=direct",
                    )
    for number in range(1, CUTS + 1):
        with loop_device(tmp_path / f"cut{number}") as device:
            with mounted(device, tmp_path / "var") as folder:
                contents = {path.parent.name: path.read_text() for path in folder.glob("d*/file")}
                assert len(list(folder.glob("d*"))) == number
            assert contents == {f"d{n}": "life 2" for n in range(1, number + 1)}
            tool("e2fsck", "-fn", device)


def test_a_resumed_flash_completes_with_other_identifiers(opened: Image) -> None:
    size = opened.bmap.image_bytes
    first, second = make_plan(opened, size), make_plan(opened, size)
    disk, other = MemoryDisk(bytes(size)), MemoryDisk(bytes(size))
    flash(first, opened, disk)
    flash(second, opened, disk, resume=True)
    flash(second, opened, other)
    assert disk.content == other.content
    assert not set(guids(bytes(first.head))) & set(guids(bytes(second.head)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "00000000-0000-4000-8000-000000000000"}, "is not the ext4 with the UUID 00000000"),
        ({"offset": 0}, "is not the ext4"),
        ({"references": [4096]}, "its UUID is not at byte 4096"),
        ({"format": "vfat"}, "is not the FAT32"),
    ],
)
def test_a_manifest_that_describes_another_file_system_is_refused(
    opened: Image, fields: dict[str, object], message: str
) -> None:
    systems = [
        msgspec.structs.replace(system, **fields) if system.format == "ext4" else system
        for system in opened.manifest.file_systems
    ]
    manifest = msgspec.structs.replace(opened.manifest, file_systems=systems)
    with pytest.raises(ImageError, match=message):
        make_plan(replace(opened, manifest=manifest), opened.bmap.image_bytes)


def test_a_file_system_whose_checksums_depend_on_its_uuid_is_refused(tmp_path: Path) -> None:
    raw, own = raw_image(tmp_path / "box.raw"), "11111111-2222-4333-8444-555555555555"
    offset = next(start for label, start, _ in PARTS if label == "root-a") * MIB
    tool(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-U",
        own,
        "-E",
        f"offset={offset}",
        "-O",
        "metadata_csum",
        raw,
        "3072k",
    )
    system = signing.SignedFileSystem(offset, "ext4", own, [])
    with (
        open_image(sign(raw, file_systems=[system]), public_key(raw)) as image,
        pytest.raises(ImageError, match=r"no metadata_csum_seed.*build the image again"),
    ):
        make_plan(image, image.bmap.image_bytes)
