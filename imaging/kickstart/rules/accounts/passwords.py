"""Passwords: only as hashes, and with strong algorithms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import SHELL_VARIABLE
from imaging.kickstart.rule import Case, Faults, LintFault, risk

CRYPT: Final = re.compile(
    r"(\$(5|6)\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$([./A-Za-z0-9]{43}|[./A-Za-z0-9]{86})"
    r"|\$y\$[./A-Za-z0-9]+\$[./A-Za-z0-9]{0,86}\$[./A-Za-z0-9]{43}"
    r"|\$1\$[./A-Za-z0-9]{0,8}\$[./A-Za-z0-9]{22}|\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}|[./A-Za-z0-9]{13})"
)
"""The hashes of crypt(5): SHA-256, SHA-512, yescrypt, MD5, bcrypt and DES."""
GRUB: Final = re.compile(r"grub\.pbkdf2\.sha512\.\d+\.[0-9A-Fa-f]+\.[0-9A-Fa-f]+")
IN_SCRIPT: Final = (
    re.compile(r"\bpasswd\b.*--stdin"),
    re.compile(r"\bchpasswd\b(?!.*(-e\b|--encrypted))"),
    re.compile(r"\becho\s+[^|;]*\|\s*cryptsetup\b"),
)


@risk
def plaintext_password(case: Case) -> Faults:
    """Kickstarts are stored on servers and media, and a copy stays on the box.

    Source: RHEL-09-611140.
    """
    for command in _accounts(case):
        password = _password(command.data)
        if password and not command.data.isCrypted and not SHELL_VARIABLE.fullmatch(password):
            yield LintFault(
                command.location,
                f"`{command.name}` has its password in plaintext",
                "write --iscrypted and a $6$ hash",
            )


@risk
def no_password_hash(case: Case) -> Faults:
    """--iscrypted requires a hash.

    Source: crypt(5).
    """
    for command in _accounts(case):
        password = _password(command.data)
        if command.data.isCrypted and not password:
            yield LintFault(
                command.location,
                f"`{command.name} --iscrypted` without a password",
                "give the hash, or --lock",
            )
        elif (
            command.data.isCrypted
            and not CRYPT.fullmatch(password)
            and not SHELL_VARIABLE.fullmatch(password)
        ):
            yield LintFault(
                command.location,
                f"the argument of `{command.name} --iscrypted` is not a hash of crypt(5)",
                "make one: `mkpasswd -m sha-512`",
            )


@risk
def weak_password_hash(case: Case) -> Faults:
    """FIPS mode supports only SHA-2 password hashes.

    Source: RHEL-09-671015.
    """
    for command in _accounts(case):
        password = _password(command.data)
        if command.data.isCrypted and CRYPT.fullmatch(password) and not password.startswith(("$5$", "$6$")):
            kind = {"$y": "yescrypt", "$1": "MD5", "$2": "bcrypt"}.get(password[:2], "DES")
            yield LintFault(
                command.location,
                f"a {kind} hash cannot be checked in FIPS mode",
                "make one with SHA-512: `mkpasswd -m sha-512`",
            )


@risk
def root_password_missing(case: Case) -> Faults:
    """Without `rootpw` an unattended installation stops with a question.

    Source: Anaconda's mandatory spokes.
    """
    administrators = [user for user in case.ks.named("user") if "wheel" in user.data.groups]
    if not case.ks.has_command("rootpw") and not administrators and not case.ks.open_ended:
        yield LintFault(
            case.ks.top,
            "there is no rootpw, and no administrator",
            "write `rootpw --lock`, and a `user` in wheel",
        )


@risk
def user_without_lock_or_key(case: Case) -> Faults:
    """An account without password or key should be locked.

    Source: RHEL-09-611155.
    """
    keys = {command.data.username for command in case.ks.named("sshkey")}
    for command in case.ks.named("user"):
        data = command.data
        if not data.password and not data.lock and data.name not in keys:
            yield LintFault(
                command.location,
                f"user {data.name} has no password, no key, and no lock",
                "add `sshkey`, a hash, or --lock",
            )


@risk
def boot_loader_password(case: Case) -> Faults:
    """A person who can edit the kernel's command line bypasses all passwords.

    Source: RHEL-09-212010.
    """
    command = case.ks.last("bootloader")
    if command is None or command.data.disabled:
        return
    password = command.data.password
    if not password:
        yield LintFault(
            command.location,
            "the boot loader has no superuser password",
            "add --iscrypted --password=grub.pbkdf2.…",
        )
    elif not command.data.isCrypted:
        yield LintFault(
            command.location,
            "the boot loader has its password in plaintext",
            "make a hash: `grub2-mkpasswd-pbkdf2`",
        )
    elif not GRUB.fullmatch(password):
        yield LintFault(
            command.location,
            "the boot loader's --iscrypted password is not a GRUB hash",
            "make one: `grub2-mkpasswd-pbkdf2`",
        )


@risk
def password_in_script(case: Case) -> Faults:
    """A script that sets a password contains it.

    Source: RHEL-09-611140.
    """
    for section in case.ks.sections_named("%pre", "%pre-install", "%post"):
        for location, text in section.lines():
            if not text.lstrip().startswith("#") and any(form.search(text) for form in IN_SCRIPT):
                yield LintFault(
                    location,
                    f"{section.name} contains the password that it sets",
                    "use `user --iscrypted --password=$6$…`",
                )


def _accounts(case: Case) -> Iterator[KickstartCommand]:
    """Return the commands that set a password."""
    return (c for c in case.ks.named("rootpw", "user", "sshpw") if not _locked_without(c.data))


def _locked_without(data: Any) -> bool:
    return bool(data.lock) and not _password(data)


def _password(data: Any) -> str:
    return str(data.password or "")
