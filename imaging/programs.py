"""Running programs of this machine, and messages about missing programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

SYSTEM_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""The folders of programs for root, which are not in the PATH of other users."""
PACKAGES: Final = {
    "apt-get": ("apt", "apt"),
    "cc": ("gcc", "gcc"),
    "createrepo_c": ("createrepo-c", "createrepo_c"),
    "debugfs": ("e2fsprogs", "e2fsprogs"),
    "dnf": ("dnf", "dnf"),
    "dpkg-deb": ("dpkg", "dpkg"),
    "grub-mkimage": ("grub-common", "grub2-tools"),
    "httpd": ("apache2-bin", "httpd mod_ssl"),
    "mcopy": ("mtools", "mtools"),
    "mke2fs": ("e2fsprogs", "e2fsprogs"),
    "mkfs.vfat": ("dosfstools", "dosfstools"),
    "oscap": ("openscap-scanner", "openscap-scanner"),
    "rpm": ("rpm", "rpm"),
    "rpmbuild": ("rpm", "rpm-build"),
    "setpriv": ("util-linux", "util-linux-core"),
    "sfdisk": ("fdisk", "util-linux"),
    "systemctl": ("systemd", "systemd"),
    "unshare": ("util-linux", "util-linux"),
    "xorriso": ("xorriso", "xorriso"),
}
"""The package that contains each program: its name in Debian, and its name in RHEL."""


class PrerequisiteMissing(Exception):
    """This machine lacks a program, root rights or disk space; the message states the remedy."""


class ProgramFailed(Exception):
    """A program ended with an error; the message contains the program's name and output."""


def require_programs(names: Iterable[str]) -> None:
    """Check that these programs are installed. Raises: PrerequisiteMissing, with the packages to install."""
    missing = [name for name in names if not _is_installed(name)]
    if missing:
        raise PrerequisiteMissing(f"{', '.join(missing)}: missing; {install_hint(missing)}")


def install_hint(names: Iterable[str]) -> str:
    """Return the commands that install these programs."""
    packages = [PACKAGES[name] for name in names]
    debian, rhel = (" ".join(sorted({pair[index] for pair in packages})) for index in (0, 1))
    return f"apt-get install {debian} (Debian), dnf install {rhel} (RHEL)"


def _is_installed(name: str) -> bool:
    """Return whether a program is installed; RHEL's names of GRUB's programs begin with "grub2-"."""
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}"
    return any(shutil.which(known, path=path) for known in (name, name.replace("grub-", "grub2-")))


def require_root(why: str) -> None:
    """Check that this process has root rights; `why` states their purpose. Raises: PrerequisiteMissing."""
    if os.geteuid() != 0:
        raise PrerequisiteMissing(f"{why}; run it as root, with sudo")


def run_program(
    command: Sequence[object],
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
    stdin: str = "",
) -> str:
    """Run a program to its end and return its standard output.

    `environment` replaces this process's own; `folder` is the working directory. Raises: ProgramFailed.
    """
    argv = [str(argument) for argument in command]
    name = Path(argv[0]).name if argv[1:2] != ["-m"] else argv[2]
    try:
        done = subprocess.run(
            argv, env=environment, cwd=folder, input=stdin, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ProgramFailed(f"{name}: cannot be started: {error.strerror}") from None
    if done.returncode:
        raise ProgramFailed(f"{name} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout
