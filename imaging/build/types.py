"""Types of the builder: the plan of an image, the request, and the errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from imaging.kickstart.data import IDENTITY_MIB, MIB, TABLE_MIB
from imaging.kickstart.document import SourceLocation
from settings import identity_archive, slots


class UnsupportedCommand(Exception):
    """A kickstart line that the builder does not support; the message states where, the problem and a remedy."""

    def __init__(self, location: SourceLocation, problem: str) -> None:
        super().__init__(f"{location.file}:{location.line}: {problem}")


class InvalidBuildRequest(Exception):
    """The request is invalid; the message states how to correct it."""


class BuildFailed(Exception):
    """A step failed; the message states why, or has the last output of the program that failed."""


@dataclass(frozen=True)
class ImagePartition:
    """A partition of the image. `mount` is its mount point, or another name without a slash; `label` may be ""."""

    mount: str
    format: str
    size_mib: int
    grow: bool = False
    label: str = ""
    options: str = "defaults"

    @property
    def name(self) -> str:
        """The name of the partition in the GPT."""
        return self.label or self.mount


IMAGE_PARTITIONS: Final = (
    ImagePartition("", "raw", IDENTITY_MIB, label=identity_archive.LABEL),
    ImagePartition("", "boot-state", slots.BOOT_STATE_BYTES // MIB, label=slots.BOOT_STATE),
)
"""The partitions of an image that are not in its kickstart: for the box's identity, and for the slot state."""


@dataclass(frozen=True)
class DiskIds:
    """The identifiers in an image, which flashing replaces, except the UUID of the root file system."""

    file_systems: dict[str, str]
    """The UUID of each file system, by mount point; for FAT, the serial of 32 bits."""
    partitions: dict[str, str]
    """The UUID of each partition, by its name in the GPT."""


@dataclass(frozen=True)
class Write:
    """A file to write; `path` is absolute in the system."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class SymbolicLink:
    """A symbolic link to make; `path` is absolute in the system."""

    path: str
    target: str


@dataclass(frozen=True)
class SystemCommand:
    """A command to run inside the system, without a network."""

    argv: tuple[str, ...]
    stdin: str = ""


Action: TypeAlias = Write | SymbolicLink | SystemCommand


@dataclass(frozen=True)
class Script:
    """A %post section: its line, interpreter and text; `log` is the file for its output, or ""."""

    line: int
    interpreter: str
    text: str
    log: str
    must_work: bool


@dataclass
class BuildPlan:
    """The plan of an image, which the commands of the kickstart fill in before anything is built."""

    partitions: list[ImagePartition] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    """The changes to the installed system, in order."""
    scripts: list[Script] = field(default_factory=list)
    """The %post sections, in order."""
    packages: Any = field(default=None, repr=False)
    """pykickstart's object for the %packages section."""
    implied: list[str] = field(default_factory=lambda: ["kernel"])
    """Packages that commands need and Anaconda installs by itself."""
    kernel_arguments: str = ""
    boot_timeout_s: int = 5
    boot_password_hash: str = ""
    disks: set[str] = field(default_factory=set, repr=False)
    """The disk that the partitions are on, if they name one; there is at most one."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Commands and sections without an effect on an image, each with the reason."""

    @property
    def disk_bytes(self) -> int:
        """The smallest possible size of the disk."""
        return (sum(p.size_mib for p in self.disk_partitions) + TABLE_MIB) * MIB

    @property
    def disk_partitions(self) -> list[ImagePartition]:
        """All partitions, in the order of the table."""
        return [*IMAGE_PARTITIONS, *self.partitions]


@dataclass(frozen=True)
class BuildRequest:
    """The request for a build. Repositories are folders or URLs.

    `out` is the folder for outputs, and `work` the folder for kept results. `disk_bytes` is the size of the disk, or
    0 for the smallest possible size. If `compress` is true, a compressed image is written as well.
    """

    kickstart: Path
    version: str
    repositories: tuple[str, ...]
    out: Path
    work: Path
    disk_bytes: int = 0
    key: Path | None = None
    compress: bool = False
