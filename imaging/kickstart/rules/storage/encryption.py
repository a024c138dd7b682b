"""LUKS: passphrases, key derivation, and what is encrypted."""

from __future__ import annotations

from typing import Final

from imaging.kickstart.limits import SHELL_VARIABLE
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import complete, mount_of, volumes

PUBLIC: Final = ("/", "/boot", "/boot/efi", "biosboot", "prepboot")
"""Partitions that a machine boots from, which contain no secrets and need no encryption."""


@risk
def passphrase_in_file(case: Case) -> Faults:
    """A LUKS passphrase in the kickstart is in each of its copies.

    Source: RHEL-09-231190.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        given = getattr(command.data, "passphrase", "")
        if given and not SHELL_VARIABLE.fullmatch(given):
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
def luks_key_derivation(case: Case) -> Faults:
    """FIPS mode has PBKDF2 but not Argon2, the default of LUKS 2.

    Source: RHEL's kickstart reference, `part --pbkdf`.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        if not getattr(command.data, "encrypted", False):
            continue
        given = command.data.pbkdf
        if command.data.luks_version != "luks1" and given != "pbkdf2":
            problem = f"--pbkdf={given}" if given else "LUKS 2 without --pbkdf takes Argon2"
            yield LintFault(
                command.spot, f"{problem}: a volume that FIPS mode cannot open", "write --pbkdf=pbkdf2"
            )


@risk
def not_encrypted(case: Case) -> Faults:
    """If one partition is encrypted, all writable ones must be.

    Source: RHEL-09-231190.
    """
    encrypted = {c.data.vgname for c in case.ks.named("volgroup") if _on_encrypted(case, c.data.physvols)}
    inside = [c for c in volumes(case) if getattr(c.data, "encrypted", False)]
    if not (complete(case) and (inside or encrypted)):
        return
    for command in volumes(case):
        mount, data = mount_of(command), command.data
        covered = getattr(data, "encrypted", False) or getattr(data, "vgname", "") in encrypted
        written = mount.startswith(("/", "swap")) and mount not in PUBLIC and not mount.startswith("/slots/")
        if written and not covered:
            yield LintFault(
                command.spot,
                f"{mount} is not encrypted, while others are",
                "add --encrypted --luks-version=luks2 --pbkdf=pbkdf2",
            )


def _on_encrypted(case: Case, members: list[str]) -> bool:
    physical = {mount_of(c): c.data for c in volumes(case)}
    found = [physical[name] for name in members if name in physical]
    return bool(found) and all(data.encrypted for data in found)
