"""Secrets: only as hashes, and with strong algorithms."""

from __future__ import annotations

import base64
import re
from binascii import Error as NotBase64
from collections.abc import Iterator
from typing import Any, Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.storage import volumes
from imaging.kickstart.site import FIPS_KEY_KINDS

CRYPT: Final = re.compile(
    r"(\$(5|6)\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$([./A-Za-z0-9]{43}|[./A-Za-z0-9]{86})"
    r"|\$y\$[./A-Za-z0-9]+\$[./A-Za-z0-9]{0,86}\$[./A-Za-z0-9]{43}"
    r"|\$1\$[./A-Za-z0-9]{0,8}\$[./A-Za-z0-9]{22}|\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}|[./A-Za-z0-9]{13})"
)
"""crypt(5): SHA-256, SHA-512, yescrypt, MD5, bcrypt, DES."""
GRUB: Final = re.compile(r"grub\.pbkdf2\.sha512\.\d+\.[0-9A-Fa-f]+\.[0-9A-Fa-f]+")
IN_SCRIPT: Final = (
    re.compile(r"\bpasswd\b.*--stdin"),
    re.compile(r"\bchpasswd\b(?!.*(-e\b|--encrypted))"),
    re.compile(r"\becho\s+[^|;]*\|\s*cryptsetup\b"),
)
SHELL: Final = re.compile(r"\$([A-Za-z_]\w*|\{[A-Za-z_]\w*\})")
"""A shell variable, which a %pre script replaces."""


@risk
def plaintext_password(case: Case) -> Faults:
    """Kickstarts are stored on servers and media, and a copy stays on the box.

    Source: RHEL-09-611140.
    """
    for command in _accounts(case):
        password = _password(command.data)
        if password and not command.data.isCrypted and not SHELL.fullmatch(password):
            yield LintFault(
                command.spot,
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
                command.spot, f"`{command.name} --iscrypted` without a password", "give the hash, or --lock"
            )
        elif command.data.isCrypted and not CRYPT.fullmatch(password) and not SHELL.fullmatch(password):
            yield LintFault(
                command.spot,
                f"what `{command.name} --iscrypted` gives is not a hash of crypt(5)",
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
                command.spot,
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
                command.spot,
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
            command.spot,
            "the boot loader has no superuser's password",
            "add --iscrypted --password=grub.pbkdf2.…",
        )
    elif not command.data.isCrypted:
        yield LintFault(
            command.spot,
            "the boot loader has its password in plaintext",
            "make a hash: `grub2-mkpasswd-pbkdf2`",
        )
    elif not GRUB.fullmatch(password):
        yield LintFault(
            command.spot,
            "the boot loader's --iscrypted password is not a GRUB hash",
            "make one: `grub2-mkpasswd-pbkdf2`",
        )


@risk
def passphrase_in_file(case: Case) -> Faults:
    """A LUKS passphrase in the kickstart is in each of its copies.

    Source: RHEL-09-231190.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        given = getattr(command.data, "passphrase", "")
        if given and not SHELL.fullmatch(given):
            yield LintFault(
                command.spot,
                "the passphrase of LUKS is in the file",
                "let a %pre script read it, and %include the line",
            )


@rule
def passphrase_missing(case: Case) -> Faults:
    """--encrypted without a passphrase stops an unattended installation.

    Source: RHEL's kickstart reference, `part --passphrase`.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        encrypted = getattr(command.data, "encrypted", False)
        if encrypted and not command.data.passphrase:
            yield LintFault(
                command.spot,
                "--encrypted without a passphrase: the installer stops and asks",
                "let a %pre script read it, and %include the line",
            )


@risk
def ssh_key_form(case: Case) -> Faults:
    """sshd must be able to read the key, and to accept it in FIPS mode.

    Source: RFC 4253, 6.6; sshd(8).
    """
    for command in case.ks.named("sshkey"):
        words = str(command.data.key).split()
        if len(words) < 2 or not _is_key(words[0], words[1]):
            yield LintFault(
                command.spot,
                "this is not an SSH public key",
                'write it quoted and whole: "ecdsa-sha2-nistp256 AAAA… name"',
            )
        elif words[0] not in FIPS_KEY_KINDS:
            yield LintFault(
                command.spot,
                f"a key of kind {words[0]} is refused in FIPS mode",
                f"use {', '.join(FIPS_KEY_KINDS)}",
            )


@risk
def key_without_user(case: Case) -> Faults:
    """A key for a user that the kickstart does not create.

    Source: RHEL's kickstart reference, `sshkey`.
    """
    users = {command.data.name for command in case.ks.named("user")} | {"root"}
    for command in case.ks.named("sshkey"):
        if command.data.username not in users and not case.ks.open_ended:
            yield LintFault(
                command.spot,
                f"there is no user {command.data.username}",
                f"one of {', '.join(sorted(users))}, or add `user`",
            )


@risk
def password_in_script(case: Case) -> Faults:
    """A script that sets a password contains it.

    Source: RHEL-09-611140.
    """
    for section in case.ks.of("%pre", "%pre-install", "%post"):
        for spot, text in section.lines():
            if not text.lstrip().startswith("#") and any(form.search(text) for form in IN_SCRIPT):
                yield LintFault(
                    spot,
                    f"{section.name} contains the password that it sets",
                    "use `user --iscrypted --password=$6$…`",
                )


def _accounts(case: Case) -> Iterator[KickstartCommand]:
    """The commands that set a password."""
    return (c for c in case.ks.named("rootpw", "user", "sshpw") if not _locked_without(c.data))


def _locked_without(data: Any) -> bool:
    return bool(data.lock) and not _password(data)


def _password(data: Any) -> str:
    return str(data.password or "")


def _is_key(kind: str, text: str) -> bool:
    """Whether the text is base64 of a blob that begins with its kind."""
    try:
        blob = base64.b64decode(text, validate=True)
    except (NotBase64, ValueError):
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")] == kind.encode()
