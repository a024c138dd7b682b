"""Creates the content of the partition `boot-state`: the slot state and the tries of a new box (`settings.slots`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imaging.build.boot.slot_script import TRIES_FILES
from imaging.build.sandbox import LogCallback, run
from settings import slots
from settings.slots import COPY_OFFSETS, COUNTER_FILES_BYTES, RECORD_BYTES, TRIES_OFFSETS

_BLOCK_BYTES: Final = 1024
_OPTIONS: Final = f"-q -F -t ext2 -O none -b {_BLOCK_BYTES} -N 16 -m 0"


def write_boot_state(image: Path, offset: int, id: str, epoch: int, log: LogCallback) -> None:
    """Write the records of a box that was never updated to the partition at `offset` of a disk image.

    `id` is the UUID of the file system with the tries, which GRUB writes; `epoch` is its time in seconds since 1970.
    Raises: BuildFailed, PrerequisiteMissing.
    """
    times = {"E2FSPROGS_FAKE_TIME": str(epoch), "SOURCE_DATE_EPOCH": str(epoch)}
    device = f"{image}?offset={offset}"
    extended = f"offset={offset},hash_seed={id},nodiscard,root_owner=0:0"
    command = ["mke2fs", *_OPTIONS.split(), "-U", id, "-E", extended]
    run([*command, image, f"{COUNTER_FILES_BYTES // 1024}k"], times, log, folder=image.parent)
    record = image.with_name("tries")
    record.write_bytes(slots.encode_tries(0, 0))
    run(
        ["debugfs", "-w", "-f", "-", device],
        times,
        log,
        "".join(f'write "{record}" {n}\n' for n in TRIES_FILES),
    )
    record.unlink()
    for name, position in zip(TRIES_FILES, TRIES_OFFSETS, strict=True):
        run(
            ["debugfs", "-w", "-f", "-", device],
            times,
            log,
            "".join(_move(device, name, position, epoch, log)),
        )
    with image.open("r+b") as disk:
        for position in TRIES_OFFSETS:
            disk.seek(offset + position)
            disk.write(slots.encode_tries(0, 0))
        for position in COPY_OFFSETS:
            disk.seek(offset + position)
            disk.write(slots.encode(slots.UNKNOWN))


def _move(device: str, name: str, position: int, epoch: int, log: LogCallback) -> Iterator[str]:
    """Yield the commands of debugfs that move a file of one block to a fixed position."""
    (old,) = re.findall(r"^(\d+) *$", run(["debugfs", "-R", f"blocks {name}", device], {}, log), re.MULTILINE)
    new = position // _BLOCK_BYTES
    assert RECORD_BYTES == _BLOCK_BYTES, "a record is one block"
    yield f"freeb {old}\nsetb {new}\nsif {name} block[0] {new}\n"
    yield from (
        f"sif {name} {field} {value}\n" for field, value in (("mode", "0100600"), ("uid", 0), ("gid", 0))
    )
    yield from (f"sif {name} {time} @{epoch}\n" for time in ("ctime", "atime", "mtime"))
