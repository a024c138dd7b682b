"""Running programs for a build in namespaces, which end with the builder.

Programs that work on a system run in new namespaces: a mount namespace, so that its /proc and /dev are unmounted when
the program ends; a PID namespace, so that no process stays in the background; a UTS namespace, so that no host name
gets into an image; an IPC namespace; and, for programs of the image, a network namespace without interfaces. Every
program is killed when the builder ends (PR_SET_PDEATHSIG); the kernel then kills all others in its PID namespace.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from imaging.build.types import BuildFailed
from imaging.programs import PrerequisiteMissing, require_programs, require_root

FREE_BYTES_MIN: Final = 1024 * 1024
"""Free space below which a failure is attributed to a full disk."""
FREE_SPACE_HINT: Final = "free some space, or build elsewhere with --output and --work"
LAST_LINES: Final = 12
PROGRAMS: Final = (
    *(
        "dnf",
        "rpm",
        "sfdisk",
        "mke2fs",
        "debugfs",
        "mkfs.vfat",
        "mcopy",
        "unshare",
        "setpriv",
        "grub-mkimage",
    ),
)
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INSIDE: Final = """\
set -e
root=$1; shift
echo localhost > /proc/sys/kernel/hostname
mkdir -p "$root/proc" "$root/dev" "$root/sys" "$root/run" "$root/tmp"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 dev "$root/dev"
for device in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 0666 "$root/dev/${device%:*}" c 1 "${device#*:}"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"; ln -s fd/2 "$root/dev/stderr"
mkdir "$root/dev/shm"
mount -t tmpfs run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
exec "$@"
"""
LogCallback = Callable[[str], None]
_FULL: Final = (os.strerror(errno.ENOSPC), "more space needed")
"""Messages for a full disk: the system's and dnf's."""


def require_tools() -> None:
    """Check that this process can build an image. Raises: PrerequisiteMissing."""
    require_programs(PROGRAMS)
    require_root("building an image sets the owners of its files, which requires root")


def run(
    command: Sequence[object],
    environment: Mapping[str, str],
    log: LogCallback,
    stdin: str = "",
    folder: Path | None = None,
    name: str = "",
) -> str:
    """Run a program of this machine and return its output; each line is also passed to `log`.

    `environment` is added to PATH, the locale and the time zone; `stdin` is the program's input. On a failure, the
    disk of `folder` is checked for free space. `name` is the program's name in messages.

    Raises: BuildFailed, PrerequisiteMissing.
    """
    argv = ["setpriv", "--pdeathsig", "KILL", *map(str, command)]
    lines: list[str] = []
    with tempfile.TemporaryFile("w+") as input_file:  # a pipe could block both processes
        input_file.write(stdin)
        input_file.seek(0)
        with subprocess.Popen(
            argv,
            stdin=input_file,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={"PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", **environment},
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                log(line.strip())
    if process.returncode:
        _explain(name or str(command[0]), process.returncode, lines, folder)
    return "".join(lines)


def run_over(root: Path, command: Sequence[object], environment: Mapping[str, str], log: LogCallback) -> str:
    """Run a program of this machine on the system in `root`, with that system's /proc and /dev mounted."""
    return run(
        [*_namespaces(network=True), *_mounted(root), *command],
        environment,
        log,
        folder=root,
        name=str(command[0]),
    )


def run_inside(
    root: Path, command: Sequence[object], environment: Mapping[str, str], log: LogCallback, stdin: str = ""
) -> str:
    """Run a program of the system in `root`, inside it (chroot), without a network."""
    inside = ["chroot", root, *command]
    return run(
        [*_namespaces(network=False), *_mounted(root), *inside],
        environment,
        log,
        stdin,
        root,
        str(command[0]),
    )


def _namespaces(*, network: bool) -> list[str]:
    kinds = [
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--mount-proc",
        "--uts",
        "--ipc",
        *([] if network else ["--net"]),
    ]
    return ["unshare", *kinds, "--fork", "--kill-child=KILL"]


def _mounted(root: Path) -> list[str]:
    return ["sh", "-c", _INSIDE, "sh", str(root)]


def _explain(name: str, status: int, lines: list[str], folder: Path | None) -> None:
    output = "".join(lines[-LAST_LINES:]).strip()
    is_full = any(message in "".join(lines) for message in _FULL)
    if folder is not None and (is_full or shutil.disk_usage(folder).free < FREE_BYTES_MIN):
        raise PrerequisiteMissing(f"{folder}: the disk is full; {FREE_SPACE_HINT}")
    raise BuildFailed(f"{name} failed with exit status {status}:\n{output}")
