"""Checks whether this machine can run labs in the kernel world, with a remedy for what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from netfw.errors import FirewallError
from netfw.service.requests import FirewallProcess, Probe

PROGRAMS: Final = {
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "mkfs.ext4": "e2fsprogs",
}
"""Programs that every kernel lab needs, with the Debian packages that contain them."""
_CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW", 21: "CAP_SYS_ADMIN"}
_NAMESPACES: Final = ("net", "mnt", "pid", "uts", "ipc")


class MachineLacksError(Exception):
    """This machine cannot run labs in the kernel world; the message says what is missing and how to get it."""


def require(programs: Mapping[str, str] | None = None) -> None:
    """Check that nothing is `missing`. Raises: MachineLacksError."""
    if lacking := missing(programs):
        raise MachineLacksError("\n".join(lacking))


def missing(programs: Mapping[str, str] | None = None) -> list[str]:
    """Return messages about missing requirements, each with its remedy; empty if labs can run.

    `programs` are further programs that a lab needs, with the Debian packages that contain them.
    """
    if sys.platform != "linux":
        return ["the kernel world runs on Linux only; use --world virtual here"]
    rights = _rights()
    # checking the firewall as an unprivileged user would give misleading messages
    firewall = [] if rights else _firewall()
    return [*rights, *_kernel(), *firewall, *_programs({**PROGRAMS, **(programs or {})})]


def _rights() -> list[str]:
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    lacking = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    if not lacking:
        return []
    why = "not root" if os.geteuid() else "root without its capabilities"
    return [f"{why}: needs {', '.join(lacking)}; run it with sudo, or in a privileged container"]


def _kernel() -> list[str]:
    lacking = [kind for kind in _NAMESPACES if not Path(f"/proc/self/ns/{kind}").exists()]
    return [f"this kernel has no {kind} namespaces; boot one that has them" for kind in lacking]


def _firewall() -> list[str]:
    """Check the firewall service, without which the box program would keep its ports closed."""
    try:
        with FirewallProcess() as service:
            service.ask(Probe())
    except FirewallError as error:
        return [str(error)]
    return []


def _programs(programs: dict[str, str]) -> list[str]:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return [
        f"the program {program} is missing; install it with `make setup-kernel` or the package {package}"
        for program, package in programs.items()
        if shutil.which(program, path=path) is None
    ]
