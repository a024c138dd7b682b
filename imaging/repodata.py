"""Reading a package repository's metadata, as createrepo_c writes it, straight from the files.

`repodata/repomd.xml` names the rest: `primary` (packages, what they offer and need, and their files in /etc and bin
folders), `filelists` (all files), `group` (comps: groups and environments). Each is XML, compressed by gzip, xz or
zstd.

Ten thousand packages are some 40 MB of XML. Only the start of the elements that matter is looked at, by expat itself:
a tree of it would take ten times as long.
"""

from __future__ import annotations

import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from xml.parsers import expat

from imaging.versions import Dependency, Evr

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_RPM: Final = "http://linux.duke.edu/metadata/rpm"
UNPACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".zst": zstd.decompress,
    ".xml": bytes,
}


class RepositoryError(Exception):
    """A folder that is no package repository, or one that is broken; the message says what would be right."""


class Package:
    """One package of a repository; compared by identity."""

    __slots__ = ("arch", "conflicts", "evr", "files", "name", "provides", "requires")

    def __init__(self) -> None:
        self.name = ""
        self.arch = ""
        self.evr = Evr(0, "", "")
        self.requires: list[Dependency] = []
        self.provides: list[Dependency] = []
        self.conflicts: list[Dependency] = []
        self.files: list[str] = []

    def __repr__(self) -> str:
        return f"{self.name}-{self.evr.version}-{self.evr.release}.{self.arch}"


class Group:
    """A group, or an environment, whose members are groups."""

    __slots__ = ("id", "is_environment", "members", "name", "optional")

    def __init__(self, *, is_environment: bool) -> None:
        self.id = ""
        self.name = ""
        self.is_environment = is_environment
        self.members: list[str] = []
        self.optional: list[str] = []


def locations(folder: Path) -> dict[str, Path]:
    """The metadata files of a repository by type. Errors: RepositoryError."""
    index = folder / "repodata" / "repomd.xml"
    if not index.is_file():
        raise RepositoryError(
            f"{folder}: is no package repository: {index} is not there; run `createrepo_c {folder}`"
        )
    found: dict[str, Path] = {}
    kind = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal kind
        if tag == "data":
            kind = attributes.get("type", "")
        elif tag == "location" and kind:
            found.setdefault(kind, folder / attributes.get("href", ""))

    _parse(index, start)
    if "primary" not in found:
        raise RepositoryError(f"{index}: names no primary metadata; run `createrepo_c {folder}`")
    return found


def read_packages(path: Path) -> list[Package]:
    """The packages of a `primary` file. Errors: RepositoryError."""
    packages: list[Package] = []
    package = Package()
    into: list[Dependency] = []
    text: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal package, into
        if tag == "rpm:entry":
            into.append(_dependency(attributes))
        elif tag == "package":
            package = Package()
            packages.append(package)
        elif tag == "version":
            package.evr = _evr(attributes)
        elif tag in _LISTS:
            into = getattr(package, _LISTS[tag])
        elif tag.startswith("rpm:"):
            into = []
        text.clear()

    def end(tag: str) -> None:
        if tag == "file":
            package.files.append("".join(text))
        elif tag == "name":
            package.name = "".join(text)
        elif tag == "arch":
            package.arch = "".join(text)

    _parse(path, start, end, text.append)
    return packages


def read_files(path: Path, packages: dict[tuple[str, str, Evr], Package]) -> None:
    """Put all files of a `filelists` file into the packages that are known. Errors: RepositoryError."""
    files: list[str] = []
    name = arch = ""
    text: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal files, name, arch
        if tag == "package":
            name, arch, files = attributes.get("name", ""), attributes.get("arch", ""), []
        elif tag == "version" and (known := packages.get((name, arch, _evr(attributes)))) is not None:
            known.files = files
        text.clear()

    def end(tag: str) -> None:
        if tag == "file":
            files.append("".join(text))

    _parse(path, start, end, text.append)


def read_groups(path: Path) -> list[Group]:
    """The groups and environments of a comps file. Errors: RepositoryError."""
    groups: list[Group] = []
    text: list[str] = []
    kind = ""
    translated = listed = optional = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal kind, translated, listed, optional
        if tag in ("group", "environment"):
            groups.append(Group(is_environment=tag == "environment"))
        kind = attributes.get("type", "mandatory") if tag == "packagereq" else kind
        translated = "xml:lang" in attributes
        optional |= tag == "optionlist"
        listed |= tag in ("packagelist", "grouplist", "optionlist")
        text.clear()

    def end(tag: str) -> None:
        nonlocal kind, listed, optional
        value = "".join(text).strip()
        if tag in ("packagelist", "grouplist", "optionlist"):
            listed = optional = False
        elif tag == "packagereq" or (tag == "groupid" and listed):
            (groups[-1].optional if optional or kind == "optional" else groups[-1].members).append(value)
        elif (
            groups
            and tag in ("id", "name")
            and not listed
            and not translated
            and not getattr(groups[-1], tag)
        ):
            setattr(groups[-1], tag, value)
        kind = "" if tag == "packagereq" else kind

    _parse(path, start, end, text.append)
    return groups


_LISTS: Final = {"rpm:requires": "requires", "rpm:provides": "provides", "rpm:conflicts": "conflicts"}


def _dependency(attributes: dict[str, str]) -> Dependency:
    flag = attributes.get("flags", "")
    return Dependency(attributes["name"], flag, _evr(attributes)) if flag else Dependency(attributes["name"])


def _evr(attributes: dict[str, str]) -> Evr:
    return Evr(int(attributes.get("epoch") or 0), attributes.get("ver", ""), attributes.get("rel", ""))


def _parse(path: Path, start: Any, end: Any = None, text: Any = None) -> None:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    try:
        unpack = UNPACK[path.suffix]
        parser.Parse(unpack(path.read_bytes()), True)
    except KeyError as error:
        known = ", ".join(UNPACK)
        raise RepositoryError(
            f"{path}: {error} is not one of {known} and their elements' attributes"
        ) from error
    except OSError as error:
        raise RepositoryError(
            f"{path}: cannot be read: {error.strerror or error}; run createrepo_c again"
        ) from error
    except (expat.ExpatError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError) as error:
        raise RepositoryError(f"{path}: is broken: {error}; run createrepo_c again") from error
