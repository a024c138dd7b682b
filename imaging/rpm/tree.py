"""The source tree of the box's package: `firmware-image/root` as it is, and the private folder /usr/lib/rap.

The tree depends only on the sources, on requirements.txt, and on the interpreter and the compiler: all files get the
same time and the mode of their kind, and pip's records of its installation are removed. Byte code contains a hash of
its source instead of a time (PEP 552), which is not checked, because the source does not change on a box.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hal.linux.ioctl_build import ffi
from imaging.programs import PrerequisiteMissing, require_programs, run_program
from imaging.rpm.contents import (
    RECIPE,
    REPOSITORY,
    LockedPackage,
    PackageContents,
    PackageTarget,
    RpmError,
)

PREFIX: Final = "usr/lib/rap"
"""The folder of private code (FHS 3.0, 4.6); SELinux's policy labels all of it lib_t."""
LAUNCHERS: Final = (
    "usr/bin/rap",
    *(f"usr/libexec/rap/{path.name}" for path in sorted((RECIPE / "root/usr/libexec/rap").iterdir())),
)
"""The programs that systemd, udev, cron and people start: they are executable."""
SHIPPED: Final = frozenset({".cnf", ".css", ".js", ".po", ".py", ".toml", ".typed", ".zdict"})
"""Suffixes of the files of Python packages that are installed on a box."""
PIP_METADATA: Final = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
PLATFORMS: Final = tuple(
    f"manylinux{tag}_x86_64" for tag in ("_2_34", "_2_28", "_2_17", "2014", "_2_12", "2010", "_2_5", "1")
)
"""Platform tags of wheels that run with glibc 2.34 (RHEL 9) and later (PEP 600)."""


def make_tree(
    root: Path,
    target: PackageTarget,
    contents: PackageContents,
    packages: Iterable[LockedPackage],
    wheels: Path | None,
) -> None:
    """Make the tree in the empty folder `root`. Raises: ProgramFailed, PrerequisiteMissing, RpmError."""
    python = root / PREFIX / "python"
    shutil.copytree(RECIPE / "root", root, symlinks=True, dirs_exist_ok=True)
    for name in LAUNCHERS:
        text = (root / name).read_text("utf-8")
        text = text.replace("@PYTHON@", f"/usr/bin/python{target.python}")
        (root / name).write_text(text.replace("@PACKAGES@", target.packages), "utf-8")
    _install(packages, python, target, wheels)
    _remove(contents.without_wheel_files, python)
    copy_modules(contents, python)
    _compile_ioctl(python / "hal/linux/_ioctl.abi3.so")
    (root / PREFIX / "provision").symlink_to("../../libexec/rap/provision")
    for folder in state_folders(root):
        (root / folder[1:]).mkdir(parents=True)
    licenses = root / "usr/share/licenses/rap-box"
    licenses.mkdir(parents=True)
    shutil.copy(REPOSITORY / "LICENSE", licenses)
    shutil.copy(REPOSITORY / "LICENSES/GPL-2.0-only.txt", licenses)


def state_folders(root: Path) -> dict[str, tuple[str, str, str]]:
    """Return the mode, user and group of each folder in the package's file for tmpfiles.d.

    The package contains these folders, too, because tmpfiles.d takes effect only when a system starts.
    """
    lines = (root / "usr/lib/tmpfiles.d/rap.conf").read_text("utf-8").splitlines()
    entries = [line.split() for line in lines if line.startswith("d ")]
    return {path: (mode, user, group) for _, path, mode, user, group in entries}


def compile_python(root: Path, target: PackageTarget) -> None:
    """Byte-compile the tree. Raises: PrerequisiteMissing, without the target's interpreter; ProgramFailed."""
    mode = ("--invalidation-mode", "unchecked-hash", "-q", "-j", "1")
    paths = ("-s", str(root), "-p", "/", str(root / PREFIX))
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # it determines the order of constants in a set
    run_program([interpreter(target.python), "-m", "compileall", *mode, *paths], environment)


def interpreter(version: str) -> str:
    """Return the interpreter of this version. Raises: PrerequisiteMissing."""
    if sysconfig.get_python_version() == version:
        return sys.executable
    program = shutil.which(f"python{version}")
    if not program or subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode:
        raise PrerequisiteMissing(
            f"byte-compiling for Python {version} requires that version: install python{version}, "
            "or leave the byte code out with --no-bytecode"
        )
    return program


def set_times_and_modes(root: Path, epoch: int) -> None:
    """Give everything in the tree the same time, in seconds since 1970, and the mode of its kind."""
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(_mode(path, str(path.relative_to(root))))
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _mode(path: Path, name: str) -> int:
    if path.is_dir() or name in LAUNCHERS:
        return 0o755
    return 0o440 if name.startswith("etc/sudoers.d/") else 0o644  # the mode that `visudo -c` expects


def _install(
    packages: Iterable[LockedPackage], python: Path, target: PackageTarget, wheels: Path | None
) -> None:
    """Install the locked packages into the folder `python` by pip, without pip's records about this machine."""
    python.mkdir(parents=True)
    requirements = python / "requirements.txt"
    requirements.write_text("".join(package.text for package in packages), "utf-8")
    source = ["--no-index", "-f", str(wheels)] if wheels else []
    platform = [option for name in PLATFORMS for option in ("--platform", name)]
    what = [
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        target.python,
        *platform,
    ]
    where = ["--target", str(python), "--no-compile", "--quiet", "--disable-pip-version-check"]
    run_program(
        [sys.executable, "-m", "pip", "install", *where, *what, *source, "--requirement", str(requirements)]
    )
    requirements.unlink()
    shutil.rmtree(python / "bin", ignore_errors=True)
    for note in [path for name in PIP_METADATA for path in python.glob(f"*.dist-info/{name}")]:
        note.unlink()


def _remove(patterns: Iterable[str], python: Path) -> None:
    """Remove files of wheels that a box does not need. Raises: RpmError, if a path without "*" matches nothing."""
    for pattern in patterns:
        paths = list(python.glob(pattern))
        if not paths and "*" not in pattern:
            raise RpmError(f"contents.toml: without_wheel_files: no wheel has {pattern}; remove the entry")
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def copy_modules(contents: PackageContents, python: Path) -> None:
    """Copy this repository's modules that the package contains into the folder `python`."""
    listed = [REPOSITORY / module for module in contents.modules]
    inside = [path for package in contents.packages for path in (REPOSITORY / package).rglob("*")]
    without = [REPOSITORY / path for path in contents.without]
    for path in (*listed, *inside):
        if path.suffix not in SHIPPED and path.name != "py.typed":
            continue
        if any(path == left_out or left_out in path.parents for left_out in without):
            continue
        copy = python / path.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _compile_ioctl(library: Path) -> None:
    """Compile the native part of `hal.linux` for the stable ABI, so that it works with every Python since 3.2."""
    source = library.with_name("_ioctl.c")
    with contextlib.redirect_stdout(io.StringIO()):
        ffi.emit_c_code(str(source))
    flags = [
        "-shared",
        "-fPIC",
        "-O2",
        "-g0",
        "-fstack-protector-strong",
        "-Wl,--build-id=none,-z,relro,-z,now",
    ]
    include = f"-I{sysconfig.get_path('include')}"
    require_programs(["cc"])
    run_program(["cc", *flags, include, "-o", library.name, source.name], folder=library.parent)
    source.unlink()
