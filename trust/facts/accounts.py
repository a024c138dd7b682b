"""Accounts: who can log in, who can become root, and with which keys. Hashes of passwords are never kept."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from trust.fact import Fact, fact, names, settings_lines
from trust.machine import ExaminedBox

NO_SHELLS: Final = ("/nologin", "/false", "/sync", "/halt", "/shutdown")


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield accounts with a shell or with the rights of root, rules of sudo, and keys of SSH."""
    passwd = machine.file("/etc/passwd")
    if passwd is None:
        return
    rows = [row for line in passwd.text.splitlines() if len(row := line.split(":")) == 7]
    with_shell = [row[0] for row in rows if not row[6].endswith(NO_SHELLS)]
    yield fact("accounts.with-shell", sorted(with_shell), passwd)
    yield fact("accounts.root-rights", sorted(row[0] for row in rows if row[2] == "0"), passwd)
    if group := machine.file("/etc/group"):
        chosen = ("wheel", "sudo", "adm", "root")
        members = [
            row for line in group.text.splitlines() if (row := line.split(":"))[0] in chosen and row[-1]
        ]
        yield fact("accounts.administrators", sorted(f"{row[0]} {row[-1]}" for row in members), group)
    yield from _sudo(machine)
    yield from _keys(machine, {row[0]: row[5] for row in rows})


def _sudo(machine: ExaminedBox) -> Iterator[Fact]:
    listed = machine.paths("/etc/sudoers.d/*")
    paths = ["/etc/sudoers", *names(listed)]
    files = [file for path in paths if (file := machine.file(path))]
    if files:
        lines = [
            line for file in files for line in settings_lines(file.text) if not line.startswith("@include")
        ]
        yield fact("accounts.sudo-rules", lines, listed, *files)


def _keys(machine: ExaminedBox, homes: dict[str, str]) -> Iterator[Fact]:
    keys, files = list[str](), []
    for name, home in sorted(homes.items()):
        for path in (f"{home}/.ssh/authorized_keys", f"{home}/.ssh/authorized_keys2"):
            if file := machine.file(path):
                files.append(file)
                keys += [
                    f"{name} {fingerprint}"
                    for line in settings_lines(file.text)
                    if (fingerprint := _fingerprint(line))
                ]
    if files:
        yield fact("accounts.ssh-keys", sorted(keys), *files)


def _fingerprint(line: str) -> str:
    """Return a key's type and fingerprint as `ssh-keygen -l` prints them; "" if the line has no key."""
    words = line.split()
    for kind, data in pairwise(words):
        if kind.startswith(("ssh-", "ecdsa-", "sk-")):
            try:
                digest = hashlib.sha256(base64.b64decode(data)).digest()
            except ValueError:
                return ""
            return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
    return ""
