"""Converting Debian packages to RPMs: a spec file with a subpackage for each package, and repository metadata."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from imaging.build.resume import Steps
from imaging.mock_repo.debs import Deb, fetch
from imaging.programs import run_program
from settings.toml import load
from settings.types import Table

T = TypeVar("T")
EPOCH: Final = 1_700_000_000
"""The time of all packages and metadata, so that the same packages give the same repository."""
DATA: Final = Path(__file__).with_name("packages.toml")
HEAD: Final = """\
Name: mock-repo
Version: 1
Release: 1
Summary: mock packages
License: various
AutoReqProv: no
%global debug_package %{nil}
%global __os_install_post %{nil}
%global __spec_install_pre %{___build_pre}
%global _build_id_links none
%global _binary_payload w1.zstdio
%global _buildhost mock-repo
%global use_source_date_epoch_as_buildtime 1
%global clamp_mtime_to_source_date_epoch 1
%description
Mock packages of a distribution.
"""


class Stub(Table, frozen=True):
    """A package with a few files: `files` has the content by path, and `links` the targets of symbolic links."""

    files: dict[str, str] = {}
    links: dict[str, str] = {}
    folders: list[str] = []
    provides: list[str] = []
    version: str = "1-1"


class MockPackages(Table, frozen=True):
    """The content of `packages.toml`. Keys of `also`, `scripts` and `first` are names or patterns of names."""

    debs: list[str]
    leave_out: list[str]
    also: dict[str, list[str]]
    scripts: dict[str, str]
    first: dict[str, list[str]]
    groups: dict[str, list[str]]
    environments: dict[str, list[str]]
    stubs: dict[str, Stub]


def contents() -> MockPackages:
    """Read `packages.toml`. Raises: SettingsError."""
    return load(DATA, MockPackages)


def make_repository(folder: Path, cache: Path, wanted: MockPackages | None = None) -> None:
    """Make a repository in `folder`, replacing an old one; `cache` is the folder for downloaded packages.

    `wanted` replaces the content of `packages.toml`.

    Raises: ProgramFailed.
    """
    wanted = wanted or contents()
    debs = [deb for deb in fetch(wanted.debs, cache) if not _any(wanted.leave_out, deb.name)]
    work = folder.with_name(folder.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    (root := work / "root").mkdir(parents=True)
    parts = [*_stubs(wanted.stubs, root, work), *_converted(wanted, debs, root, work)]
    spec = work / "mock-repo.spec"
    spec.write_text(HEAD + "\n".join(parts))
    build(spec, root, folder)
    shutil.rmtree(work)
    describe(folder, wanted)


def make_stubs(folder: Path, stubs: Mapping[str, Stub]) -> None:
    """Build further packages with a few files into `folder`, without repository metadata. Raises: ProgramFailed."""
    with TemporaryDirectory() as name:
        (root := Path(name, "root")).mkdir()
        (spec := Path(name, "stubs.spec")).write_text(HEAD + "\n".join(_stubs(stubs, root, Path(name))))
        build(spec, root, folder)


def cached_repository(folder: Path) -> Path:
    """Return the repository below `folder`, rebuilt only if `packages.toml` has changed. Raises: ProgramFailed."""
    inputs = DATA.read_text("utf-8")
    with Steps(folder, lambda _name, _kept: None) as steps:
        return (
            steps.step("repository", inputs, lambda to: make_repository(to / "repo", folder / "debs"))
            / "repo"
        )


def build(spec: Path, root: Path, folder: Path) -> None:
    """Build the packages of a spec file from the files under `root` into `folder`. Raises: ProgramFailed."""
    command = [
        "rpmbuild",
        "-bb",
        "--quiet",
        "--buildroot",
        str(root.absolute()),
        "--define",
        f"_rpmdir {folder.absolute()}",
    ]
    command += [
        "--define",
        f"_topdir {spec.parent.absolute()}",
        "--define",
        "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
    ]
    environment = {
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(spec.parent),
    }
    run_program([*command, spec], environment)


def describe(folder: Path, wanted: MockPackages) -> None:
    """Write the repository metadata for a folder of packages. Raises: ProgramFailed."""
    comps = folder / "comps.xml"
    comps.write_text(_comps(wanted))
    stamps = ["--revision", str(EPOCH), "--set-timestamp-to-revision"]
    run_program(["createrepo_c", "--quiet", *stamps, "--groupfile", comps.name, folder])


def subpackage(name: str, version: str, lines: Iterable[str], listing: Path, script: str = "") -> str:
    """Return the part of a spec file for one package, whose files are in `listing`."""
    epoch, _, rest = version.rpartition(":")
    number, _, release = rest.rpartition("-") if "-" in rest else (rest, "", "1")
    head = [f"%package -n {name}", *([f"Epoch: {epoch}"] if epoch else [])]
    head += [
        f"Version: {number.replace('-', '.')}",
        f"Release: {release}",
        f"Summary: {name}",
        "AutoReqProv: no",
        *lines,
    ]
    body = [
        f"%description -n {name}",
        name,
        f"%files -n {name}" + (f" -f {listing.absolute()}" if listing.stat().st_size else ""),
    ]
    return "\n".join([*head, *body, *([f"%post -n {name}", script] if script else []), ""])


def _converted(wanted: MockPackages, debs: Sequence[Deb], root: Path, work: Path) -> Iterator[str]:
    names = {deb.name: _names(wanted, deb.name) for deb in debs}
    by_offer = {offer: names[deb.name][0] for deb in debs for offer in reversed(deb.offers)}
    for deb in debs:
        name, *also = names[deb.name]
        listing = work / f"{name}.files"
        listing.write_text(_listing(deb.unpack(root), wanted.stubs["filesystem"]))
        needs = sorted(
            {next((by_offer[n] for n in any_of if n in by_offer), name) for any_of in deb.needs} - {name}
        )
        script = "\n".join(_matching(wanted.scripts, deb.name))
        others = chain(*_matching(wanted.first, deb.name))
        first = sorted({"bash", "coreutils", "findutils", "libc-bin", *needs, *others} - {name})
        lines = ["Requires(pre): filesystem", *(f"Requires: {other}" for other in needs)]
        lines += [f"Requires(post): {other}" for other in (first if script else [])]
        lines += [f"Provides: {other}" for other in sorted({*also, *deb.offers} - {name})]
        yield subpackage(name, deb.fields["Version"], lines, listing, script)


def _names(wanted: MockPackages, name: str) -> list[str]:
    """Return the names of a package: RHEL's name if it differs, then other names that it provides."""
    also = [other for names in _matching(wanted.also, name) for other in names]
    return also if also and not also[0].startswith("/") else [name, *also]


def _listing(paths: Iterable[tuple[str, bool]], filesystem: Stub) -> str:
    ours = {*filesystem.links, *filesystem.folders}
    return "".join(
        f'{"%dir " if folder else ""}"/{path}"\n' for path, folder in dict(paths).items() if path not in ours
    )


def _stubs(stubs: Mapping[str, Stub], root: Path, work: Path) -> Iterator[str]:
    for name, stub in stubs.items():
        for path in stub.folders:
            (root / path).mkdir(parents=True, exist_ok=True)
        for path, text in stub.files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
            (root / path).chmod(0o755 if text.startswith("#!") else 0o644)
        for path, target in stub.links.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to(target)
        listing = work / f"{name}.files"
        listing.write_text(
            "".join(f'"/{path}"\n' for path in (*stub.files, *stub.links))
            + "".join(f'%dir "/{path}"\n' for path in stub.folders)
        )
        lines = [*(f"Provides: {other}" for other in stub.provides)]
        yield subpackage(
            name,
            stub.version,
            lines if name == "filesystem" else [*lines, "Requires(pre): filesystem"],
            listing,
        )


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _matching(table: dict[str, T], name: str) -> list[T]:
    return [value for pattern, value in table.items() if fnmatch.fnmatchcase(name, pattern)]


def _comps(wanted: MockPackages) -> str:
    groups = [
        f"<group><id>{id}</id><name>{id}</name><uservisible>true</uservisible><packagelist>"
        + "".join(f'<packagereq type="mandatory">{name}</packagereq>' for name in names)
        + "</packagelist></group>"
        for id, names in wanted.groups.items()
    ]
    environments = [
        f"<environment><id>{id}</id><name>{id}</name><grouplist>"
        + "".join(f"<groupid>{name}</groupid>" for name in names)
        + "</grouplist></environment>"
        for id, names in wanted.environments.items()
    ]
    return '<?xml version="1.0"?>\n<comps>' + "\n".join([*groups, *environments]) + "</comps>\n"
