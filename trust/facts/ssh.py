"""The settings of the SSH server, as reported by sshd or read from its files.

sshd uses the first value of a keyword; `Include` is replaced by its files (sshd_config(5)).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trust.evidence import Evidence
from trust.fact import Fact, fact, names, settings_lines
from trust.machine import ExaminedBox

MAIN: Final = "/etc/ssh/sshd_config"
KEYWORDS: Final = {
    "passwordauthentication": "ssh.password-login",
    "kbdinteractiveauthentication": "ssh.keyboard-interactive",
    "permitrootlogin": "ssh.root-login",
    "permitemptypasswords": "ssh.empty-passwords",
    "pubkeyauthentication": "ssh.key-login",
    "gssapiauthentication": "ssh.gssapi",
    "hostbasedauthentication": "ssh.host-based",
    "allowtcpforwarding": "ssh.tcp-forwarding",
    "disableforwarding": "ssh.forwarding-disabled",
    "x11forwarding": "ssh.x11-forwarding",
    "ciphers": "ssh.ciphers",
    "macs": "ssh.macs",
    "kexalgorithms": "ssh.key-exchanges",
    "hostkeyalgorithms": "ssh.host-keys",
    "allowusers": "ssh.users",
    "clientaliveinterval": "ssh.idle-seconds",
    "logingracetime": "ssh.login-seconds",
    "maxauthtries": "ssh.tries",
    "loglevel": "ssh.log-level",
}
"""The keywords that are facts, in lower case, and their keys."""


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the settings that have a value."""
    effective = machine.command("sshd", "-T")
    files = _files(machine)
    evidence = [effective] if effective else files
    settings: dict[str, list[str]] = {}
    for file in evidence:
        for line in settings_lines(file.text):
            keyword, _, value = line.replace("=", " ", 1).partition(" ")
            if keyword.lower() == "match":
                break
            word = keyword.lower()
            if word == "allowusers":
                settings.setdefault(word, []).extend(value.split())
            elif word in KEYWORDS:
                settings.setdefault(word, [value.strip().strip('"')])
    for word, key in KEYWORDS.items():
        if word in settings:
            values = settings[word] if word == "allowusers" else [_normal(word, settings[word][0])]
            yield fact(key, values, *evidence)


def _normal(word: str, value: str) -> str:
    """Return a value as sshd prints it."""
    return {"120s": "120", "1m": "60"}.get(value, value) if word == "logingracetime" else value


def _files(machine: ExaminedBox) -> list[Evidence]:
    """Return the included files, then the main one: the order in which sshd uses them if `Include` comes first."""
    main = machine.file(MAIN)
    if main is None:
        return []
    included: list[Evidence] = []
    for line in settings_lines(main.text):
        keyword, _, pattern = line.partition(" ")
        if keyword.lower() == "include":
            included += [file for path in names(machine.paths(pattern)) if (file := machine.file(path))]
    return [*included, main]
