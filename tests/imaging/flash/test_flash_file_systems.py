"""A flash gives file systems new identifiers: small ones are made here, flashed, and checked by their own tools."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from imaging.flash.identifiers import IdentifierPatch, apply, patches
from imaging.flash.plan import make_plan
from imaging.flash.source import Image, open_image
from imaging.flash.write import flash
from imaging.media.imagefile import ImageError
from imaging.signing import SignedFileSystem
from tests.support.imaging.flash.images import (
    IMAGE_BYTES,
    MIB,
    MemoryDisk,
    public_key,
    raw_image,
    sign,
)

pytestmark = pytest.mark.skipif(
    not all(shutil.which(name) for name in ("mke2fs", "mkfs.vfat")), reason="needs e2fsprogs and dosfstools"
)

OWN = "11111111-2222-4333-8444-555555555555"
ROOT, ESP = 3 * MIB, MIB
REFERENCES = [6 * MIB + 100, 7 * MIB - 10]
"""Offsets of references to the identifier: within a range of the block map, and across two."""
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
USUAL = "metadata_csum,metadata_csum_seed,^resize_inode"


@dataclass
class Flashed:
    """An image, and the disk to which it was flashed."""

    image: Image
    disk: MemoryDisk
    folder: Path

    def partition(self, offset: int, length: int) -> Path:
        file = self.folder / "partition.img"
        file.write_bytes(self.disk.content[offset : offset + length])
        return file


def tool(*command: object) -> str:
    """Run a program; return its output."""
    arguments = [str(argument) for argument in command]
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout


def image_with_ext4(folder: Path, features: str, *more: object, fit: bool = True) -> Path:
    """Return an image with an ext4 in the partition root-a and its UUID at `REFERENCES`.

    With `fit`, the ext4 has 12 block groups of 256 KiB; `more` are options of mke2fs.
    """
    raw = raw_image(folder / "box.raw")
    groups = ["-b", "1024", "-g", "256", "-N", "64", *more] if fit else list(more)
    options = ["-q", "-F", "-t", "ext4", "-U", OWN, "-E", f"offset={ROOT}", "-O", features, *groups]
    tool("mke2fs", *options, raw, "3072k")
    with raw.open("r+b") as file:
        for at in REFERENCES:
            file.seek(at)
            file.write(OWN.encode())
    return raw


def ext4(raw: Path, **changes: Any) -> SignedFileSystem:
    values: dict[str, Any] = {"offset": ROOT, "format": "ext4", "id": OWN, "references": REFERENCES} | changes
    return SignedFileSystem(**values)


@contextmanager
def opened(raw: Path, system: SignedFileSystem) -> Iterator[Image]:
    with open_image(sign(raw, file_systems=[system]), public_key(raw)) as image:
        yield image


def flashed(raw: Path, system: SignedFileSystem, seed: int = 1) -> Flashed:
    disk = MemoryDisk(bytes(IMAGE_BYTES))
    with opened(raw, system) as image:
        flash(make_plan(image, IMAGE_BYTES, draw=Random(seed).randbytes), image, disk)
        return Flashed(image, disk, raw.parent)


def change(raw: Path, offset: int, data: bytes) -> None:
    with raw.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def field(raw: Path, offset: int, layout: str) -> Any:
    return struct.unpack_from(layout, raw.read_bytes(), ROOT + 1024 + offset)[0]


def superblocks(file: Path) -> list[str]:
    """Return the output of dumpe2fs for each superblock."""
    block_bytes = re.findall(r"Block size:\s+(\d+)", tool("dumpe2fs", "-h", file))[0]
    backups = re.findall(r"Backup superblock at (\d+)", tool("dumpe2fs", file))
    options = [["-o", f"superblock={n}", "-o", f"blocksize={block_bytes}"] for n in backups]
    return [tool("dumpe2fs", "-h", *each, file) for each in ([], *options)]


# -- ext4


@pytest.mark.parametrize(
    ("features", "more", "copies"),
    [
        (USUAL, (), 6),
        (f"{USUAL},64bit", (), 6),
        ("^metadata_csum,^uninit_bg,^metadata_csum_seed,^resize_inode", (), 6),
        (f"{USUAL},^has_journal", (), 6),
        (USUAL, ("-b", "4096", "-g", "256"), 2),
        (USUAL, ("-b", "1024", "-g", "2048"), 2),
        (USUAL, ("-b", "1024", "-g", "8192"), 1),
    ],
)
def test_an_ext4_gets_another_uuid_everywhere_and_valid_checksums(
    tmp_path: Path, features: str, more: tuple[str, ...], copies: int
) -> None:
    raw = image_with_ext4(tmp_path, features, *more, fit=not more)
    result = flashed(raw, ext4(raw))
    file = result.partition(ROOT, 3 * MIB)
    tool("e2fsck", "-fn", file)
    blocks = superblocks(file)
    assert len(blocks) == copies
    (new,) = {text for each in blocks for text in re.findall(rf"Filesystem UUID:\s+({UUID})\n", each)}
    assert new != OWN
    for at in REFERENCES:
        assert result.disk.content[at : at + 36].decode() == new
    assert OWN.encode() not in result.disk.content
    if "has_journal" in re.findall(r"Filesystem features:.*", blocks[0])[0]:
        (sequence,) = re.findall(r"Journal sequence:\s+(0x[0-9a-f]+)", blocks[0])
        assert 2**16 < int(sequence, 16) < 2**31


def test_identifiers_depend_only_on_the_random_source(tmp_path: Path) -> None:
    raw = image_with_ext4(tmp_path, USUAL)
    system = ext4(raw)
    one, same, other = (flashed(raw, system, seed).disk.content for seed in (1, 1, 2))
    assert one == same
    assert one[REFERENCES[0] : REFERENCES[0] + 36] != other[REFERENCES[0] : REFERENCES[0] + 36]


def test_the_journal_gets_the_uuid_and_a_nonzero_sequence_number(tmp_path: Path) -> None:
    raw = image_with_ext4(tmp_path, USUAL)
    with opened(raw, ext4(raw)) as image:
        for drawn in (bytes(20), b"\xff" * 20):
            made = patches(image, [], lambda count: drawn[:count])  # noqa: B023 - is called at once
            (journal,) = [each.data for each in made if each.data[:4] == b"\xc0\x3b\x39\x98"]
            sequence = struct.unpack_from(">I", journal, 0x18)[0]
            assert 1 <= sequence < 2**31
            (first, *_) = [each.data for each in made if each.data[0x38:0x3A] == b"\x53\xef"]
            assert journal[0x30:0x40] == first[0x68:0x78]


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        ("metadata_csum,^metadata_csum_seed,^resize_inode", "no metadata_csum_seed"),
        ("^metadata_csum,uninit_bg,^resize_inode", "no metadata_csum_seed"),
        (f"{USUAL},^sparse_super", "sparse_super is needed"),
        (f"{USUAL},sparse_super2", "sparse_super is needed"),
        (f"{USUAL},meta_bg", "sparse_super is needed"),
        (f"{USUAL},^extent,^64bit", "a journal without extents"),
    ],
)
def test_an_ext4_that_cannot_get_another_uuid_is_refused(tmp_path: Path, features: str, problem: str) -> None:
    raw = image_with_ext4(tmp_path, features)
    with opened(raw, ext4(raw)) as image:
        message = rf"box\.raw: the file system at byte {ROOT} .*{problem}.*; build the image again"
        with pytest.raises(ImageError, match=message):
            patches(image, [], Random(1).randbytes)


def journal_offset(raw: Path) -> int:
    return ROOT + int(field(raw, 0x10C + 5 * 4, "<I")) * 1024


@pytest.mark.parametrize(
    ("where", "data", "problem"),
    [
        (lambda raw: ROOT + 1024 + 0x38, b"\0\0", "is not the ext4 with the UUID 1111"),
        (lambda raw: ROOT + 1024 + 0x68, b"\0", "is not the ext4 with the UUID 1111"),
        (lambda raw: ROOT + 1024 * 257 + 0x38, b"\0", f"no copy of its superblock at byte {ROOT + 1024 * 257}"),
        (lambda raw: ROOT + 1024 * (9 * 256 + 1) + 0x68, b"\0", "no copy of its superblock"),
        (lambda raw: ROOT + 1024 + 0x10C, b"\0\0", "a journal without extents"),
        (lambda raw: ROOT + 1024 + 0x10C + 6, b"\1", "a journal without extents"),  # a tree of extents
        (lambda raw: ROOT + 1024 + 0x10C + 12, b"\1", "a journal without extents"),  # not from its beginning
        (journal_offset, b"\0", "a journal that is in use"),
        (lambda raw: journal_offset(raw) + 7, b"\5", "a journal that is in use"),
        (lambda raw: journal_offset(raw) + 0x1F, b"\1", "a journal that is in use"),
        (lambda raw: journal_offset(raw) + 0x24, b"\1", "has unsupported features"),
        (lambda raw: journal_offset(raw) + 0x2F, b"\1", "has unsupported features"),
        (lambda raw: REFERENCES[1] + 35, b"x", f"its UUID is not at byte {REFERENCES[1]}"),
    ],
)  # fmt: skip
def test_a_file_system_that_differs_from_the_manifest_is_refused(
    tmp_path: Path, where: Any, data: bytes, problem: str
) -> None:
    raw = image_with_ext4(tmp_path, USUAL)
    change(raw, where(raw), data)
    with opened(raw, ext4(raw)) as image, pytest.raises(ImageError, match=problem):
        patches(image, [], Random(1).randbytes)


# -- FAT


def image_with_fat(folder: Path) -> tuple[Path, SignedFileSystem]:
    raw = raw_image(folder / "box.raw")
    tool("mkfs.vfat", "-F", "32", "-i", "1234ABCD", f"--offset={ESP // 512}", raw, "1000")
    change(raw, REFERENCES[0], b"1234-ABCD")
    return raw, SignedFileSystem(ESP, "vfat", "1234-ABCD", REFERENCES[:1])


def test_a_fat_gets_another_serial_in_both_boot_sectors_and_at_its_references(tmp_path: Path) -> None:
    raw, system = image_with_fat(tmp_path)
    result = flashed(raw, system)
    file = result.partition(ESP, 1000 * 1024)
    assert "differences" not in tool("fsck.vfat", "-n", file), "the boot sector differs from its backup"
    new = tool("blkid", "-p", "-o", "value", "-s", "UUID", file).strip()
    assert re.fullmatch(r"[0-9A-F]{4}-[0-9A-F]{4}", new)
    assert new != "1234-ABCD"
    assert result.disk.content[REFERENCES[0] : REFERENCES[0] + 9].decode() == new


@pytest.mark.parametrize("at", [510, 511, 0x42, 0x43, 0x46])
def test_a_fat_that_differs_from_the_manifest_is_refused(tmp_path: Path, at: int) -> None:
    raw, system = image_with_fat(tmp_path)
    change(raw, ESP + at, b"\x07")
    with (
        opened(raw, system) as image,
        pytest.raises(ImageError, match="is not the FAT32 with the serial 1234-ABCD"),
    ):
        patches(image, [], Random(1).randbytes)


# -- patches


def test_patches_apply_to_any_part_of_the_image() -> None:
    applied = (IdentifierPatch(10, b"abcd"), IdentifierPatch(14, b"ef"), IdentifierPatch(30, b"g"))
    expected = bytearray(40)
    assert apply(applied, 0, memoryview(expected))
    assert expected == bytes(10) + b"abcdef" + bytes(14) + b"g" + bytes(9)
    for size in (1, 3, 7, 16):
        parts = bytearray()
        for at in range(0, 40, size):
            part = bytearray(min(size, 40 - at))
            is_patched = any(at < patch.end and patch.offset < at + len(part) for patch in applied)
            assert apply(applied, at, memoryview(part)) is is_patched
            parts += part
        assert parts == expected
