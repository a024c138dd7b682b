"""Debian packages: resolving dependencies with apt, and downloading them into a folder.

apt resolves the dependencies for a machine without any installed package, independent of this machine.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Final

from imaging.programs import ProgramFailed, run_program

MERGED: Final = ("bin", "sbin", "lib", "lib64")
"""Folders that are links into /usr on current systems, but real folders in Debian's packages."""
UNWANTED: Final = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
)


@dataclass(frozen=True)
class Deb:
    """A .deb file."""

    path: Path

    @cached_property
    def fields(self) -> dict[str, str]:
        """The control fields, with continuation lines joined."""
        text = run_program(["dpkg-deb", "--field", self.path]).replace("\n ", " ")
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    @property
    def name(self) -> str:
        """The name of the package, such as "systemd"."""
        return self.fields["Package"]

    @property
    def needs(self) -> Iterator[list[str]]:
        """Yield the alternatives of each dependency, by name."""
        for key in ("Pre-Depends", "Depends"):
            for clause in filter(None, self.fields.get(key, "").split(", ")):
                yield [re.split(r"[ :(]", name.strip())[0] for name in clause.split("|")]

    @property
    def offers(self) -> list[str]:
        """The names that the package provides, the package name first."""
        return [
            self.name,
            *re.findall(r"[a-z0-9][a-z0-9+.-]+", re.sub(r"\([^)]*\)", "", self.fields.get("Provides", ""))),
        ]

    def unpack(self, root: Path) -> list[tuple[str, bool]]:
        """Unpack the files under `root`, below /usr where needed. Returns each path and whether it is a folder."""
        paths = []
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", self.path], stdout=subprocess.PIPE) as unpacking:
            assert unpacking.stdout is not None
            for member, archive in _members(unpacking.stdout):
                archive.extract(member, root)
                paths.append((member.name, member.isdir()))
        return paths


def _members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            member.name = _merged(member.name)
            if member.islnk():
                member.linkname = _merged(member.linkname)
            if member.name and member.name not in MERGED and not member.name.startswith(UNWANTED):
                yield member, archive


def _merged(name: str) -> str:
    parts = PurePosixPath(name).parts
    return "/".join(("usr", *parts) if parts[:1] and parts[0] in MERGED and parts[1:] else parts)


def fetch(names: Sequence[str], folder: Path, options: Sequence[str] = ()) -> list[Deb]:
    """Download these packages and their dependencies into `folder`, unless it contains them; return all of them.

    `options` are further options of apt, such as "Dir::Etc::preferences=FILE". Raises: ProgramFailed.
    """
    folder = folder.absolute()  # apt resolves relative paths from another folder
    (folder / "partial").mkdir(parents=True, exist_ok=True)
    nothing = folder / "installed"
    nothing.write_text("")
    folders = (f"Dir::State::status={nothing}", f"Dir::Cache::archives={folder}")
    every = (*folders, "Debug::NoLocking=1", "APT::Sandbox::User=root", *options)
    arguments = [argument for option in every for argument in ("-o", option)]
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "-qq", *arguments]
    run_program([*command, "--download-only", *names])
    simulated = run_program([*command, "--simulate", *names])
    return [Deb(folder / file) for file in sorted(_files(simulated, folder))]


def _files(simulated: str, folder: Path) -> Iterator[str]:
    """Yield the downloaded files of the packages that apt would install."""
    for name, version, arch in re.findall(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", simulated, re.MULTILINE):
        file = f"{name}_{version.replace(':', '%3a')}_{arch}.deb"
        if not (folder / file).exists():
            raise ProgramFailed(f"apt did not keep {file} in {folder}")
        yield file
