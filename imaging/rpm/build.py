"""Building the box's package: a tree (`imaging.rpm.tree`), packed by rpmbuild with `firmware-image/rpm/rap-box.spec`.

Two builds of the same commit give the same bytes. rpmbuild stores a host name and a time; here, the name is fixed,
and the time is the time of the commit (SOURCE_DATE_EPOCH, as specified by reproducible-builds.org). Macros, database
and folders of rpmbuild are temporary, so that the RPM configuration of the machine has no effect and is not changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.programs import ProgramFailed, require_programs, run_program
from imaging.rpm.contents import (
    RECIPE,
    REPOSITORY,
    LockedPackage,
    PackageContents,
    PackageTarget,
    RpmError,
    load_contents,
    locked,
    make_target,
    version,
)
from imaging.rpm.tree import PREFIX, compile_python, make_tree, set_times_and_modes, state_folders

OWN_LICENSES: Final = frozenset({"Apache-2.0", "Apache-2.0 OR GPL-2.0-only"})
"""The licenses of this project's own files: see docs/design/licenses.md."""


@dataclass(frozen=True, slots=True)
class BuiltRpm:
    """A built package and its SHA-256 in hexadecimal."""

    path: Path
    sha256: str


def build_rpm(
    output: Path, release: str, python: str = "", wheels: Path | None = None, *, bytecode: bool = True
) -> BuiltRpm:
    """Build the box's package for `release`, such as "rhel9", into the folder `output`.

    `python` is the Python version; default: the release's. `wheels` is a folder of wheels, for builds without
    a network. Without `bytecode`, any machine can build for any Python version.
    Raises: RpmError, PrerequisiteMissing; nothing is written then.
    """
    contents = load_contents()
    target = make_target(contents, release, python)
    packages = locked(contents, (REPOSITORY / "requirements.txt").read_text("utf-8"))
    epoch = source_date_epoch()
    require_programs(["rpmbuild"])
    with tempfile.TemporaryDirectory(prefix="rap-rpm-") as name:
        folder = Path(name)
        tree = folder / "tree"
        try:
            make_tree(tree, target, contents, packages, wheels)
            if bytecode:
                compile_python(tree, target)
            set_times_and_modes(tree, epoch)
            (folder / ".rpmmacros").write_text(_macros(folder, target, contents, packages), "utf-8")
            (folder / "files").write_text(file_list(tree), "utf-8")
            return _keep(_rpmbuild(folder, epoch), output)
        except ProgramFailed as error:
            raise RpmError(str(error)) from None


def source_date_epoch() -> int:
    """Return the build's time in seconds since 1970: SOURCE_DATE_EPOCH or the commit's.

    Raises: RpmError.
    """
    if value := os.environ.get("SOURCE_DATE_EPOCH"):
        if not value.isdecimal():
            raise RpmError(
                f"SOURCE_DATE_EPOCH={value}: is not a whole number of seconds since 1970; correct or unset it"
            )
        return int(value)
    try:
        return int(run_program(["git", "-C", REPOSITORY, "log", "-1", "--format=%ct"]))
    except ProgramFailed:
        raise RpmError("there is no commit to take the time from: set SOURCE_DATE_EPOCH") from None


def file_list(tree: Path) -> str:
    """Return the %files section: every file, and the folders that no other package has; see `make_tree`."""
    state = state_folders(tree)
    own = (tree / PREFIX, tree / "usr/libexec/rap", tree / "etc/rap", tree / "usr/share/licenses/rap-box")
    lines = ["%defattr(-, root, root, -)"]
    for path in sorted(tree.rglob("*")):
        name = f'"/{path.relative_to(tree)}"'
        if path.is_symlink() or not path.is_dir():
            lines.append(f"%config(noreplace) {name}" if path.is_relative_to(tree / "etc") else name)
        elif rights := state.get(f"/{path.relative_to(tree)}"):
            lines.append(f"%attr({', '.join(rights)}) %dir {name}")
        elif any(path.is_relative_to(folder) for folder in own):
            lines.append(f"%dir {name}")
    return "\n".join(lines) + "\n"


def _macros(
    folder: Path, target: PackageTarget, contents: PackageContents, packages: list[LockedPackage]
) -> str:
    """Return the rpm macros of this build: its settings, and the values that the spec file uses."""
    major, minor = target.python.split(".")
    python = f"{target.python_package} >= {target.python}, {target.python_package} < {major}.{int(minor) + 1}"
    licenses = sorted({contents.licenses[package.name] for package in packages} | OWN_LICENSES)
    packages_of_python = [f"{target.python_package}-{name}" for name in contents.distribution]
    tags = [f"Requires: {needed}" for needed in (*contents.requires, python, *packages_of_python)]
    tags += [f"Recommends: {useful}" for useful in contents.recommends]
    tags += [f"Provides: bundled(python3dist({one.name})) = {one.version}" for one in packages]
    values = {
        "_topdir": folder,
        "_tmppath": folder,
        "_dbpath": folder / "db",
        "_buildhost": "rap-box",
        "_rpmfilename": "%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm",
        "use_source_date_epoch_as_buildtime": 1,
        "clamp_mtime_to_source_date_epoch": 1,
        "rap_tree": folder / "tree",
        "rap_files": folder / "files",
        "rap_version": version(),
        "rap_dist": target.tag,
        "rap_license": " AND ".join(f"({one})" if " OR " in one else one for one in licenses),
        "rap_requires": "\\\n".join(["%{nil}", *tags]),
    }
    return "".join(f"%{name} {value}\n" for name, value in values.items())


def _rpmbuild(folder: Path, epoch: int) -> Path:
    """Run rpmbuild with `folder` as its home. Returns the package."""
    options = ["--quiet", "--target", "x86_64", "--buildroot", str(folder / "root")]
    command = ["rpmbuild", "-bb", *options, RECIPE / "rpm/rap-box.spec"]
    environment = {**os.environ, "HOME": str(folder), "SOURCE_DATE_EPOCH": str(epoch), "LC_ALL": "C.UTF-8"}
    run_program(command, environment, folder=folder)
    return next((folder / "RPMS").glob("*.rpm"))


def _keep(built: Path, output: Path) -> BuiltRpm:
    part = output / f".{built.name}.part"
    try:
        output.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built, part)
        package = part.replace(output / built.name)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RpmError(f"--output {output}: cannot be written: {error.strerror}") from error
    return BuiltRpm(package, hashlib.sha256(package.read_bytes()).hexdigest())
