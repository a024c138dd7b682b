"""Reading a package repository's metadata, as createrepo_c writes it.

`repodata/repomd.xml` names the other files: `primary` (the packages with the capabilities that they provide and
require, and their files in /etc and bin folders), `filelists` (all files), and `group` (comps: groups and
environments). Each is XML, compressed by gzip, xz or zstd.

Ten thousand packages are about 40 MB of XML. It is parsed with expat handlers for the relevant elements only, because
building a tree would take ten times as long.
"""

from __future__ import annotations

import gc
import gzip
import lzma
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias
from xml.parsers import expat

from imaging.repository.versions import Dependency, Evr

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Start: TypeAlias = Callable[[str, dict[str, str]], None]
Text: TypeAlias = Callable[[str, str], None]
UNPACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".zst": zstd.decompress,
    ".xml": bytes,
}


class RepositoryError(Exception):
    """The folder is not a package repository, or is damaged; the message states the remedy."""


class Package:
    """A package of a repository. Packages are compared by identity."""

    __slots__ = ("arch", "evr", "files", "name", "provides", "requires")

    def __init__(self) -> None:
        self.name = ""
        self.arch = ""
        self.evr = Evr(0, "", "")
        self.requires: list[Dependency] = []
        self.provides: list[Dependency] = []
        self.files: list[str] = []

    def __repr__(self) -> str:
        return f"{self.name}-{self.evr.version}-{self.evr.release}.{self.arch}"


class PackageGroup:
    """A package group, or an environment, whose members are groups."""

    __slots__ = ("id", "is_environment", "members", "name", "optional")

    def __init__(self, *, is_environment: bool) -> None:
        self.id = ""
        self.name = ""
        self.is_environment = is_environment
        self.members: list[str] = []
        self.optional: list[str] = []


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Disable garbage collection while many long-lived objects are created, which halves the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def locations(folder: Path) -> dict[str, Path]:
    """Return the metadata files of a repository by type. Raises: RepositoryError."""
    index = folder / "repodata" / "repomd.xml"
    if not index.is_file():
        raise RepositoryError(
            f"{folder}: is not a package repository: {index} does not exist; run `createrepo_c {folder}`"
        )
    by_type: dict[str, Path] = {}
    kind = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal kind
        if tag == "data":
            kind = attributes.get("type", "")
        elif tag == "location" and kind:
            by_type.setdefault(kind, folder / attributes.get("href", ""))

    _parse(index, start)
    if "primary" not in by_type:
        raise RepositoryError(f"{index}: names no primary metadata; run `createrepo_c {folder}`")
    return by_type


def read_packages(path: Path) -> list[Package]:
    """Return the packages of a `primary` file. Raises: RepositoryError."""
    packages: list[Package] = []
    package = Package()
    into: list[Dependency] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal package, into
        if tag == "rpm:entry":
            into.append(_dependency(**attributes))
        elif tag == "package":
            package = Package()
            packages.append(package)
        elif tag == "version":
            package.evr = _evr(attributes)
        elif tag.startswith("rpm:"):
            into = getattr(package, tag[4:]) if tag[4:] in ("requires", "provides") else []

    def text(tag: str, text: str) -> None:
        if tag == "file":
            package.files.append(text)
        else:
            setattr(package, tag, text)

    _parse(path, start, text, ("name", "arch", "file"))
    return packages


def read_files(path: Path, packages: dict[tuple[str, str, Evr], Package]) -> None:
    """Set the files of these packages from a `filelists` file. Raises: RepositoryError."""
    files: list[str] = []
    name = arch = ""

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal files, name, arch
        if tag == "package":
            name, arch, files = attributes.get("name", ""), attributes.get("arch", ""), []
        elif tag == "version" and (known := packages.get((name, arch, _evr(attributes)))) is not None:
            known.files = files

    _parse(path, start, lambda _tag, text: files.append(text), ("file",))


def read_groups(path: Path) -> list[PackageGroup]:
    """Return the groups and environments of a comps file. Raises: RepositoryError."""
    groups: list[PackageGroup] = []
    into: list[str] | None = None
    translated = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal into, translated
        if tag in ("group", "environment"):
            groups.append(PackageGroup(is_environment=tag == "environment"))
            into = None
        elif tag == "packagereq":
            into = groups[-1].optional if attributes.get("type") == "optional" else groups[-1].members
        elif tag in ("grouplist", "optionlist"):
            into = groups[-1].members if tag == "grouplist" else groups[-1].optional
        translated = "xml:lang" in attributes

    def text(tag: str, text: str) -> None:
        if into is not None and tag in ("packagereq", "groupid"):
            into.append(text.strip())
        elif groups and into is None and tag in ("id", "name") and not translated:
            setattr(groups[-1], tag, text.strip())

    _parse(path, start, text, ("id", "name", "packagereq", "groupid"))
    return groups


@lru_cache(maxsize=1 << 18)
def _dependency(
    name: str, flags: str = "", epoch: str = "", ver: str = "", rel: str = "", **_pre: str
) -> Dependency:
    """Return the dependency in the attributes of an `rpm:entry`. Cached, because most occur many times."""
    return Dependency(name, flags, Evr(int(epoch or 0), ver, rel)) if flags else Dependency(name)


def _evr(attributes: dict[str, str]) -> Evr:
    return Evr(int(attributes.get("epoch") or 0), attributes.get("ver", ""), attributes.get("rel", ""))


def _parse(path: Path, start: Start, text: Text | None = None, reading: tuple[str, ...] = ()) -> None:
    """Call `start` for each element, and `text` with the text of the elements in `reading`, which have no children.

    The text handlers are installed only inside those elements, because calls of handlers take most of the time.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    pieces: list[str] = []

    def begin(tag: str, attributes: dict[str, str]) -> None:
        start(tag, attributes)
        if tag in reading:
            pieces.clear()
            parser.CharacterDataHandler = pieces.append
            parser.EndElementHandler = finish

    def finish(tag: str) -> None:
        parser.CharacterDataHandler = parser.EndElementHandler = None
        if text is not None:
            text(tag, "".join(pieces))

    parser.StartElementHandler = begin
    try:
        with gc_disabled():
            parser.Parse(UNPACK[path.suffix](path.read_bytes()), True)
    except KeyError as error:
        raise RepositoryError(
            f"{path}: {error} is not one of {', '.join(UNPACK)}; run createrepo_c again"
        ) from error
    except OSError as error:
        raise RepositoryError(
            f"{path}: cannot be read: {error.strerror or error}; run createrepo_c again"
        ) from error
    except (
        expat.ExpatError,
        EOFError,
        ValueError,
        TypeError,
        IndexError,
        lzma.LZMAError,
        zstd.ZstdError,
    ) as error:
        raise RepositoryError(f"{path}: is damaged: {error}; run createrepo_c again") from error
