"""Of a disk image, only the file system in the root slot's partition is released."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from imaging.release.slot_image import SlotExtent, extract_slot, find_slot, slot_sha256
from rap.__main__ import main
from rap.outcome import OK, WRONG_INPUT
from wire.release.delta import Delta

MIB = 1024 * 1024
SLOT_BYTES, PARTITION_MIB = 4 * MIB, 6


def disk_image(path: Path, content: str, label: str = "root-a") -> Path:
    """Return a disk whose partition `label` has a file system with one file, followed by random bytes."""
    (tree := path.with_suffix(".tree")).mkdir()
    (tree / "file").write_text(content)
    with path.open("wb") as file:
        file.truncate((PARTITION_MIB + 4) * MIB)
    table = f'label: gpt\nstart=2048, size=2048, name="first"\nstart=4096, size={PARTITION_MIB}MiB, name="{label}"\n'
    command = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(path)]
    subprocess.run(command, input=table, text=True, check=True, capture_output=True)
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(Random(content).randbytes(PARTITION_MIB * MIB))
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E", f"offset={2 * MIB}", "-d", str(tree)]
    subprocess.run([*command, str(path), f"{SLOT_BYTES // 1024}k"], check=True, capture_output=True)
    return path


def test_the_slot_of_a_disk_image_is_its_file_system(tmp_path: Path) -> None:
    disk = disk_image(tmp_path / "disk", "one")
    extent = find_slot(disk)
    assert extent == SlotExtent(2 * MIB, SLOT_BYTES)
    content = disk.read_bytes()[2 * MIB : 2 * MIB + SLOT_BYTES]
    assert slot_sha256(disk, extent) == sha256(content).hexdigest()
    extract_slot(disk, extent, tmp_path / "slot")
    assert (tmp_path / "slot").read_bytes() == content
    assert find_slot(tmp_path / "slot") is None


def test_a_delta_between_disk_images_is_between_their_slots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (disk_image(tmp_path / text, text) for text in ("one", "two"))
    delta = tmp_path / "delta"
    assert main(["image", "release", "delta", str(first), str(second), "-o", str(delta)]) == OK
    capsys.readouterr()
    data = delta.read_bytes()
    header = Delta.open(lambda at, length: data[at : at + length], len(data)).header
    for disk, sha256_in_delta in ((first, header.source_sha256), (second, header.target_sha256)):
        assert slot_sha256(disk, SlotExtent(2 * MIB, SLOT_BYTES)) == sha256_in_delta.hex()


def test_a_disk_without_a_slot_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = disk_image(tmp_path / "disk", "one", label="data")
    command = ["image", "release", "delta", str(disk), str(disk), "-o", str(tmp_path / "delta")]
    assert main(command) == WRONG_INPUT
    assert f"{disk}: has no partition root-a; give an image of `rap image build`" in capsys.readouterr().err
    empty = disk_image(tmp_path / "other", "two")
    with empty.open("r+b") as file:
        file.seek(2 * MIB + 1024 + 0x38)
        file.write(b"\0\0")
    assert (
        main(["image", "release", "delta", str(empty), str(disk), "-o", str(tmp_path / "delta")])
        == WRONG_INPUT
    )
    assert f"{empty}: its partition root-a has no ext4 file system" in capsys.readouterr().err
    assert not (tmp_path / "delta").exists()
