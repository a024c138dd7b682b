"""The contents of the box's package, from `firmware-image/rpm/contents.toml` and requirements.txt.

requirements.txt locks all packages, including those for development. pip-compile adds to each entry the packages that
require it ("# via cffi"), from which the packages for the box are determined offline: those that the box's modules
import, and their dependencies.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from settings.problems import SettingsError
from settings.toml import load, parse, read_text
from settings.types import Table

REPOSITORY: Final = Path(__file__).parents[2]
RECIPE: Final = REPOSITORY / "firmware-image"
CONTENTS: Final = RECIPE / "rpm/contents.toml"
_ENTRY: Final = re.compile(r"^([a-z0-9-]+)==(\S+).*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
_VIA: Final = re.compile(r"^ +#(?: via)?\s+([a-z0-9-]+)", re.MULTILINE)


class RpmError(Exception):
    """The package cannot be built from the input; the message states the remedy."""


class PackageContents(Table, frozen=True):
    """The content of contents.toml, whose comments explain each key."""

    packages: list[str]
    modules: list[str]
    without: list[str]
    without_wheel_files: list[str]
    requires: list[str]
    recommends: list[str]
    distribution: list[str]
    licenses: dict[str, str]
    python: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class PackageTarget:
    """The target of a package: release ("rhel9"), Python version ("3.11"), and the system package of that Python."""

    release: str
    python: str
    python_package: str

    @property
    def tag(self) -> str:
        """The dist tag of the release: "el9"."""
        return self.release.replace("rhel", "el")

    @property
    def packages(self) -> str:
        """The folder of the distribution's packages with extension modules, in RHEL's layout."""
        return f"/usr/lib64/python{self.python}/site-packages"


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One entry of requirements.txt; `text` is all of it, with hashes and marker."""

    name: str
    version: str
    text: str


def load_contents(file: Path = CONTENTS) -> PackageContents:
    """Read contents.toml. Raises: RpmError, with all problems."""
    try:
        return load(file, PackageContents)
    except SettingsError as error:
        raise RpmError(str(error)) from None


def make_target(contents: PackageContents, release: str, python: str = "") -> PackageTarget:
    """Return the target for a release; `python` is by default the release's usual version. Raises: RpmError."""
    pythons = contents.python.get(release)
    if pythons is None:
        raise RpmError(f"--release {release}: is unknown; write one of {', '.join(contents.python)}")
    python = python or next(iter(pythons))
    if python not in pythons:
        raise RpmError(f"--python {python}: {release} does not have it; write one of {', '.join(pythons)}")
    return PackageTarget(release, python, pythons[python])


def locked(contents: PackageContents, requirements: str) -> list[LockedPackage]:
    """Return the entries of requirements.txt that the box needs, in order. Raises: RpmError, if one is missing."""
    entries = {
        match[1]: LockedPackage(match[1], match[2], match[0]) for match in _ENTRY.finditer(requirements)
    }
    if missing := contents.licenses.keys() - entries.keys():
        raise RpmError(f"requirements.txt: has no {', '.join(sorted(missing))}; run `make lock`")
    wanted, from_distribution = set(contents.licenses), set(contents.distribution)
    while (
        more := {name for name, one in entries.items() if wanted & set(_VIA.findall(one.text))}
        - wanted
        - from_distribution
    ):
        wanted |= more
    if unlicensed := wanted - contents.licenses.keys():
        names = ", ".join(sorted(unlicensed))
        raise RpmError(f"firmware-image/rpm/contents.toml: licenses: add the license of {names}")
    return [one for name, one in entries.items() if name in wanted]


def version() -> str:
    """Return the version of this repository."""
    file = REPOSITORY / "pyproject.toml"
    return str(parse(read_text(file), file)["project"]["version"])
