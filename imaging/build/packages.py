"""Installing packages into an empty folder by `dnf --installroot`, with a reproducible package database.

rpm stores the time and transaction of each installation. The headers are read from the database, these two numbers
are replaced, and a new database is written in the order of the headers' bytes.
"""

from __future__ import annotations

import re
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pykickstart.constants import GROUP_DEFAULT, KS_BROKEN_IGNORE, KS_MISSING_IGNORE

from imaging.build.sandbox import LogCallback, run, run_over
from imaging.build.types import BuildFailed, InvalidBuildRequest, UnsupportedCommand
from imaging.kickstart.document import Section

_CACHE: Final = "/rap-dnf-cache"
"""dnf's cache, inside the installation root: otherwise the path of a folder of this machine would remain there."""
IN_SLOT: Final = "usr/lib/sysimage/rpm"
"""The folder of the package database in a slot, and in every system of RHEL 10."""
IN_VAR: Final = "var/lib/rpm"
"""The folder in which rpm of RHEL 9 looks for the package database."""
DATABASES: Final = (IN_SLOT, IN_VAR)
_MAGIC: Final = bytes.fromhex("8eade80100000000")
_TIMES: Final = (1008, 1128)
"""The tags of the time and transaction of an installation: RPMTAG_INSTALLTIME and RPMTAG_INSTALLTID."""
_NO_MATCH: Final = re.compile(r"^Error: Unable to find a match: (.+)$", re.MULTILINE)
_NOT_LOADED: Final = re.compile(r"repo(?:sitory)? 'image(\d+)'")
_ENTRY: Final = struct.Struct(">IIiI")
_QUERY: Final = (
    "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{LICENSE}\\t%{SIGMD5}\\t%{SOURCERPM}\\n"
)


@dataclass(frozen=True, order=True)
class InstalledPackage:
    """An installed package; `sigmd5` distinguishes builds of the same version, `source` is its source RPM."""

    name: str
    epoch: str
    version: str
    arch: str
    license: str
    sigmd5: str
    source: str = ""


def install(
    root: Path,
    section: Any,
    implied: Sequence[str],
    repositories: Sequence[str],
    epoch: int,
    log: LogCallback,
) -> None:
    """Install the packages of a %packages section and the implied ones.

    Raises: InvalidBuildRequest, BuildFailed, PrerequisiteMissing.
    """
    command: list[object] = [
        "dnf",
        "--assumeyes",
        "--installroot",
        root.absolute(),
        "--releasever=/",
        "--setopt=reposdir=/dev/null",
    ]
    command += [
        f"--setopt=cachedir={_CACHE}",
        "--setopt=keepcache=0",
        "--noplugins",
    ]
    command += [
        f"--config={_home(root) / 'dnf.conf'}",
        "--setopt=module_platform_id=",
        "--setopt=best=1",
        "--nogpgcheck",
        "--color=never",
    ]
    for number, repository in enumerate(repositories):
        command += [f"--repofrompath=image{number},{_address(repository)}", f"--repo=image{number}"]
    command += [f"--exclude={name}" for name in section.excludedList]
    command += _options(section)
    if section.instLangs:
        (macros := root / "etc/rpm/macros.image-language").parent.mkdir(parents=True)
        macros.write_text(f"%_install_langs {section.instLangs}\n")
    wanted = [
        *section.packageList,
        *dict.fromkeys(implied),
        *(f"@{group.name}" for group in section.groupList),
    ]
    wanted += [] if section.nocore else ["@core"]
    wanted += [f"@{section.environment}"] if section.environment else []
    environment = {"SOURCE_DATE_EPOCH": str(epoch), "HOME": str(_home(root))}
    try:
        run_over(root, [*command, "install", *wanted], environment, log)
    except BuildFailed as error:
        raise _input_error(str(error), repositories) or error from None
    finally:
        shutil.rmtree(_home(root))
        shutil.rmtree(root / _CACHE.lstrip("/"), ignore_errors=True)


def check_section(written: Section, section: Any) -> None:
    """Raise UnsupportedCommand for an entry or option of %packages that dnf's command line cannot express."""
    groups = [group for group in section.groupList if group.include != GROUP_DEFAULT]
    for wrong, problem in (
        (section.excludedGroupList, "-@GROUP: exclude its packages instead, one by one"),
        (groups, "@GROUP --optional and --nodefaults: name the packages instead"),
        (section.default, "--default: name an environment, such as @^minimal-environment"),
        (
            section.handleBroken == KS_BROKEN_IGNORE,
            "--ignorebroken: leave out the packages that cannot be installed",
        ),
    ):
        if wrong:
            location = next(
                (location for location, text in written.lines() if _names_any_group(text, wrong)),
                written.location,
            )
            raise UnsupportedCommand(location, f"%packages {problem}")


def _names_any_group(text: str, wrong: Any) -> bool:
    """Return whether a line names one of these groups."""
    entry = text.split()[:1]
    return (
        bool(entry) and isinstance(wrong, list) and entry[0].lstrip("-@") in {group.name for group in wrong}
    )


def _options(section: Any) -> list[str]:
    """Return the options of dnf that correspond to the options of %packages."""
    settings = {
        "install_weak_deps=0": section.excludeWeakdeps,
        "tsflags=nodocs": section.excludeDocs,
        "multilib_policy=all": section.multiLib,
        "strict=0": section.handleMissing == KS_MISSING_IGNORE,
        f"timeout={section.timeout}": section.timeout is not None,
        f"retries={section.retries}": section.retries is not None,
    }
    return [f"--setopt={option}" for option, is_set in settings.items() if is_set]


def _input_error(output: str, repositories: Sequence[str]) -> InvalidBuildRequest | None:
    """Return the error in the request that dnf's output reports, or None."""
    if missing := _NO_MATCH.search(output):
        return InvalidBuildRequest(
            f"no repository has {missing[1]}; add a repository that has it with --repo, or remove it from %packages"
        )
    if broken := _NOT_LOADED.search(output):
        return InvalidBuildRequest(
            f"--repo {repositories[int(broken[1])]}: its metadata cannot be read; create it again with createrepo_c"
        )
    return None


def normalise(root: Path, epoch: int, log: LogCallback) -> None:
    """Make the package database reproducible. Raises: BuildFailed."""
    database = next((root / path for path in DATABASES if (root / path / "rpmdb.sqlite").exists()), None)
    if database is None:
        raise BuildFailed(f"{root}: dnf wrote no sqlite package database")
    exported = root.with_name("rpmdb.export")
    fresh = root.with_name("rpmdb")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    with exported.open("wb") as file:
        for header in sorted(_headers(database)):
            file.write(_MAGIC + _timeless(header, epoch))
    run(["sh", "-c", 'rpmdb --define "_dbpath $1" --importdb < "$2"', "sh", fresh, exported], {}, log)
    _make_readable(fresh)
    shutil.rmtree(database)
    fresh.rename(database)
    exported.unlink()
    for leftover in ("rpmdb.sqlite-shm", "rpmdb.sqlite-wal", ".rpm.lock"):
        (database / leftover).unlink(missing_ok=True)


def installed(root: Path, log: LogCallback) -> list[InstalledPackage]:
    """Return the installed packages of a tree, sorted by name. Raises: BuildFailed."""
    database = next(root / path for path in DATABASES if (root / path / "rpmdb.sqlite").exists())
    with tempfile.TemporaryDirectory(
        prefix="rap-rpmdb-"
    ) as folder:  # reading creates files next to the database
        copied = shutil.copytree(database, Path(folder) / "db")
        text = run(["rpm", "--dbpath", copied, "-qa", "--queryformat", _QUERY], {}, log)
    return sorted(InstalledPackage(*line.split("\t")) for line in text.splitlines() if line.count("\t") == 6)


def _headers(database: Path) -> Iterator[bytes]:
    """Yield the package headers in rpm's sqlite database, which have no magic number."""
    import sqlite3

    with sqlite3.connect(database / "rpmdb.sqlite") as connection:
        yield from (bytes(blob) for (blob,) in connection.execute("select blob from Packages"))
    connection.close()


def _make_readable(database: Path) -> None:
    """Make the database readable on a read-only file system: with a write-ahead log, readers write too."""
    import sqlite3

    connection = sqlite3.connect(database / "rpmdb.sqlite")
    connection.execute("pragma journal_mode = delete")
    connection.close()


def _timeless(header: bytes, epoch: int) -> bytes:
    """Return a header (rpm's docs, "RPM v4 header format") with its two times replaced; both are 32-bit numbers."""
    count, _ = struct.unpack_from(">II", header)
    store = 8 + count * _ENTRY.size
    changed = bytearray(header)
    for position in range(8, store, _ENTRY.size):
        tag, kind, offset, _ = _ENTRY.unpack_from(header, position)
        if tag in _TIMES and kind == 4:
            struct.pack_into(">I", changed, store + offset, epoch)
    return bytes(changed)


def _home(root: Path) -> Path:
    """Return a home directory for dnf: on Debian, rpm keeps its database in the calling user's home by default."""
    home = root.with_name("home")
    home.mkdir(exist_ok=True)
    (home / "dnf.conf").write_text("[main]\n")
    (home / ".rpmmacros").write_text("%_dbpath /var/lib/rpm\n")
    return home


def _address(repository: str) -> str:
    return repository if "://" in repository else Path(repository).absolute().as_uri()
