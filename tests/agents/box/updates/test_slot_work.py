"""The content of a slot: the rest of the partition behind a smaller file system is not part of a release."""

from __future__ import annotations

import subprocess
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest

from agents.box.updates.slots.slot_work import hash_slot, slot_bytes
from hal.emul.partition import EmulPartition

MIB = 1024 * 1024
PARTITION_BYTES = 12 * MIB


def _partition(content: bytes) -> EmulPartition:
    """Return a partition that begins with `content`; random bytes follow, as of former content."""
    rest = Random(1).randbytes(PARTITION_BYTES - len(content))
    return EmulPartition(PARTITION_BYTES, Random(0), content + rest)


def _file_system(folder: Path, *options: str) -> bytes:
    image = folder / "slot.img"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", *options, str(image), f"{8 * MIB // 1024}k"]
    subprocess.run(command, check=True, capture_output=True)
    return image.read_bytes()


@pytest.mark.parametrize("options", [("-b", "1024"), ("-b", "4096"), ("-b", "4096", "-O", "64bit")])
def test_a_slot_has_the_length_of_its_file_system(tmp_path: Path, options: tuple[str, ...]) -> None:
    content = _file_system(tmp_path, *options)
    slot = _partition(content)
    assert slot_bytes(slot) == len(content) == 8 * MIB
    *_, digest = hash_slot(slot, slot_bytes(slot))
    assert digest == sha256(content).hexdigest()


def test_a_slot_without_a_file_system_has_the_length_of_its_partition() -> None:
    assert slot_bytes(_partition(b"")) == PARTITION_BYTES


def test_a_file_system_size_larger_than_the_partition_is_ignored(tmp_path: Path) -> None:
    content = bytearray(_file_system(tmp_path, "-b", "4096"))
    content[1024 + 4 : 1024 + 8] = (2**31).to_bytes(4, "little")
    assert slot_bytes(_partition(bytes(content))) == PARTITION_BYTES
