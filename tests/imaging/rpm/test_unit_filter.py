"""OpenVPN, which the box program starts, needs no system calls that the box program's unit forbids."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from agents.box.main import UNPRIVILEGED
from imaging.rpm.contents import RECIPE
from wire.openvpn.program import PROGRAM

UNIT = RECIPE / "root/usr/lib/systemd/system/rap-box.service"
NOBODY = 65534
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
"""SCMP_ACT_ALLOW and SCMP_ACT_ERRNO of seccomp.h."""
_LIBRARY = ctypes.util.find_library("seccomp")
PROGRAMS = ("systemd-analyze", "setpriv", PROGRAM)
LACKING = [name for name in PROGRAMS if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(
    bool(LACKING) or _LIBRARY is None or os.geteuid() != 0,
    reason="needs root, libseccomp, and systemd-analyze, setpriv and OpenVPN: make setup-sessions",
)


def group(name: str) -> set[str]:
    """Return the system calls of a group such as `@system-service`."""
    command = ("systemd-analyze", "syscall-filter", "--no-pager", name)
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[1:]
    calls = set[str]()
    for line in filter(None, map(str.strip, lines)):
        calls |= group(line) if line.startswith("@") else set() if line.startswith("#") else {line}
    return calls


def permitted(unit: Path) -> set[str]:
    """Return the system calls that a unit permits (systemd.exec(5), SystemCallFilter=)."""
    allowed = set[str]()
    for line in unit.read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            value = line.partition("=")[2]
            calls = {
                call
                for name in value.removeprefix("~").split()
                for call in (group(name) if name[0] == "@" else {name})
            }
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def test_openvpn_starts_without_capabilities_within_the_filter_of_the_box_program() -> None:
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    denied = group("@known") - permitted(UNIT)
    numbers = [library.seccomp_syscall_resolve_name(name.encode()) for name in denied]
    context = ctypes.c_void_p(library.seccomp_init(ALLOW))
    for number in numbers:
        library.seccomp_rule_add(context, ERRNO | errno.EPERM, number, 0)

    def restrict() -> None:
        assert library.seccomp_load(context) == 0  # this also sets no_new_privs

    done = subprocess.run(
        (*UNPRIVILEGED, "--", PROGRAM, "--genkey", "tls-crypt-v2-server"),
        capture_output=True,
        text=True,
        check=False,
        user=NOBODY,
        group=NOBODY,
        preexec_fn=restrict,
    )
    assert done.returncode == 0, done.stderr
    assert "tls-crypt-v2 server key" in done.stdout
