"""The programs that the box program starts run with the system calls that its unit permits."""

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
    """Return the system calls of a group, as `@system-service`."""
    words = ("systemd-analyze", "syscall-filter", "--no-pager", name)
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")[1:]
    calls = set[str]()
    for line in filter(None, map(str.strip, lines)):
        calls |= group(line) if line.startswith("@") else set() if line.startswith("#") else {line}
    return calls


def permitted(unit: Path) -> set[str]:
    """Return the system calls that a unit permits (systemd.exec(5), SystemCallFilter=)."""
    found = set[str]()
    for line in unit.read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.partition("=")[2]
            calls = {
                call
                for word in words.removeprefix("~").split()
                for call in (group(word) if word[0] == "@" else {word})
            }
            found = found - calls if words.startswith("~") else found | calls
    return found


def test_openvpn_starts_without_capabilities_within_the_filter_of_the_box_program() -> None:
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    denied = group("@known") - permitted(UNIT)
    numbers = [library.seccomp_syscall_resolve_name(name.encode()) for name in denied]
    context = ctypes.c_void_p(library.seccomp_init(ALLOW))
    for number in numbers:
        library.seccomp_rule_add(context, ERRNO | errno.EPERM, number, 0)

    def restrict() -> None:
        assert library.seccomp_load(context) == 0  # it sets NoNewPrivileges, too

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
