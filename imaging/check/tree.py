"""The tree to evaluate: a folder, or the content of a disk image of `rap image build`, without mounting it.

The image's build record (NAME.build.json) has the position and mount point of each partition. debugfs copies the
files of ext4 file systems with owners and modes, mtools those of FAT. SELinux labels are not copied.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from imaging.check.types import InvalidCheckInput
from imaging.programs import require_programs

_REQUEST: Final = re.compile(r'debugfs: +ls -p "/(.*)"')
_ENTRY: Final = re.compile(r"/\d+/(\d+)/\d+/\d+/([^/]+)/\d*/")


class RecordedPartition(msgspec.Struct, frozen=True):
    """A partition in a build record; `offset` is in bytes."""

    mount: str
    format: str
    offset: int


class BuildRecord(msgspec.Struct, frozen=True):
    """The part of a build record that this module needs."""

    partitions: list[RecordedPartition]


@contextmanager
def opened_tree(path: Path) -> Iterator[Path]:
    """Yield the folder at `path`, or a temporary folder with the content of the image at `path`.

    Raises: InvalidCheckInput, PrerequisiteMissing.
    """
    if path.is_dir():
        yield path
    elif path.is_file():
        with TemporaryDirectory(prefix="rap-tree-", dir="/var/tmp") as folder:
            _extract(path, Path(folder))
            yield Path(folder)
    else:
        raise InvalidCheckInput(
            f"{path}: does not exist; give the folder of a system, or an image of `rap image build`"
        )


def _extract(image: Path, tree: Path) -> None:
    for partition in sorted(_record(image).partitions, key=lambda partition: partition.mount):
        target = tree / partition.mount.lstrip("/")
        if partition.format == "ext4":
            target.mkdir(parents=True, exist_ok=True)
            device = f"{image}?offset={partition.offset}"
            _run(["debugfs", "-R", f'rdump / "{target}"', device])
            _special_modes(device, target)
        elif partition.format == "efi":
            target.mkdir(parents=True, exist_ok=True)
            _run(["mcopy", "-s", "-n", "-i", f"{image}@@{partition.offset}", "::*", str(target)])


def _special_modes(device: str, target: Path) -> None:
    """Set the set-user-ID, set-group-ID and sticky bits, and the mode of the root: rdump does not copy them."""
    folders = [Path(parent).relative_to(target) for parent, _, _ in os.walk(target)]
    output = _run(["debugfs", "-f", "-", device], "".join(f'ls -p "/{folder}"\n' for folder in folders))
    folder = target
    for line in output.splitlines():
        if request := _REQUEST.fullmatch(line):
            folder = target / request[1]
        elif entry := _ENTRY.fullmatch(line):
            mode, name = int(entry[1], 8), entry[2]
            special = mode & 0o7000 and name != ".." and not stat.S_ISLNK(mode)
            if special or name == ".":
                (folder / name).chmod(stat.S_IMODE(mode))


def _record(image: Path) -> BuildRecord:
    file = image.with_suffix(".build.json")
    try:
        return msgspec.json.decode(file.read_bytes(), type=BuildRecord)
    except OSError as error:
        raise InvalidCheckInput(
            f"{file}: cannot be read ({error.strerror}); `rap image build` writes it beside the image, and it "
            "has the offsets of the partitions"
        ) from error
    except msgspec.MsgspecError as error:
        raise InvalidCheckInput(f"{file}: is not a build record: {error}") from error


def _run(command: list[str], requests: str = "") -> str:
    require_programs(command[:1])
    done = subprocess.run(command, input=requests, capture_output=True, text=True, check=False)
    # debugfs begins with its version, and always has exit status 0
    output = "\n".join(done.stderr.splitlines()[1:])
    if done.returncode or (command[0] == "debugfs" and output):
        raise InvalidCheckInput(f"{command[-1]}: {output or done.stderr.strip()}")
    return done.stdout
