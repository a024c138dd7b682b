"""What the parts of the builder share: what an image is to become, and how building it can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from imaging.kickstart.data import MIB, RESERVED_MIB
from imaging.kickstart.document import Spot


class NotFollowed(Exception):
    """The kickstart says something that cannot be followed without the installer: where, what, and the repair."""

    def __init__(self, spot: Spot, problem: str) -> None:
        super().__init__(f"{spot.file}:{spot.line}: {problem}")


class WrongRequest(Exception):
    """What was given cannot become an image; the message says what would be right."""


class BuildFailed(Exception):
    """A step did not work; the message has what its program said last."""


@dataclass(frozen=True)
class Partition:
    """One partition; sizes in MiB, "" for no label."""

    mount: str
    format: str
    size_mib: int
    grow: bool = False
    label: str = ""
    options: str = "defaults"


@dataclass(frozen=True)
class Write:
    """A file of the system with this content; `path` as the system sees it."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class SymbolicLink:
    """A symbolic link of the system."""

    path: str
    target: str


@dataclass(frozen=True)
class SystemCommand:
    """A command to run inside the system, without a network; `stdin` is its input."""

    argv: tuple[str, ...]
    stdin: str = ""


Act: TypeAlias = Write | SymbolicLink | SystemCommand


@dataclass(frozen=True)
class Script:
    """A %post section: where it stands, what runs it, and where what it said goes ("" for nowhere)."""

    line: int
    interpreter: str
    text: str
    log: str
    must_work: bool


@dataclass
class BuildPlan:
    """What a kickstart comes to. Commands fill it in; nothing is done before all of them have been read."""

    partitions: list[Partition] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    """What commands do to the installed system, in their order."""
    scripts: list[Script] = field(default_factory=list)
    """The %post sections, in their order."""
    packages: Any = field(default=None, repr=False)
    """pykickstart's object of the %packages section."""
    implied: list[str] = field(default_factory=lambda: ["kernel"])
    """Packages that commands need, which Anaconda installs without being asked."""
    kernel_arguments: str = ""
    boot_timeout_s: int = 5
    boot_password_hash: str = ""
    ignored: dict[str, str] = field(default_factory=dict)
    """Commands and sections that mean nothing for an image, each with the reason."""

    @property
    def disk_bytes(self) -> int:
        """The smallest disk that holds it."""
        return (sum(p.size_mib for p in self.partitions) + RESERVED_MIB) * MIB


@dataclass(frozen=True)
class BuildRequest:
    """What to build, and where. Repositories are folders or URLs; `out` gets the image, `work` what is kept.

    `compress`: a compressed image as well.
    """

    kickstart: Path
    version: str
    repositories: tuple[str, ...]
    out: Path
    work: Path
    disk_bytes: int = 0
    key: Path | None = None
    compress: bool = False
