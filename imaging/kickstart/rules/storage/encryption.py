"""LUKS: passphrases, key derivation, and encrypted volumes."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.limits import SHELL_VARIABLE
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.volumes import complete, mount_of, volumes

PBKDF: Final = ("pbkdf", "pbkdf_memory", "pbkdf_time", "pbkdf_iterations")
LUKS: Final = ("cipher", "luks_version", "passphrase", "escrowcert")
CIPHER: Final = re.compile(
    r"(aes|serpent|twofish|camellia|cast5|cast6|blowfish|sm4)"
    r"(-(cbc|ctr|ecb|lrw|xts|hctr2)(-(plain|plain64|plain64be|essiv:\w+|benbi|null|random))?)?|xchacha\d+,aes-adiantum-\w+"
)
ITERATIONS_MIN: Final = {"pbkdf2": 1000, "argon2i": 4, "argon2id": 4}
"""Minimum number of iterations of each function: cryptsetup, `lib/utils_pbkdf.c`."""
PUBLIC: Final = ("/", "/boot", "/boot/efi", "biosboot", "prepboot")
"""Partitions that a machine boots from, which contain no secrets and need no encryption."""


@risk
def passphrase_in_file(case: Case) -> Faults:
    """A LUKS passphrase in the kickstart is in each of its copies.

    Source: RHEL-09-231190.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        given = command.option("passphrase")
        if given and not SHELL_VARIABLE.fullmatch(given):
            yield LintFault(
                command.location,
                "the passphrase of LUKS is in the file",
                "let a %pre script read it, and %include the line",
            )


@rule
def passphrase_missing(case: Case) -> Faults:
    """--encrypted without a passphrase stops an unattended installation.

    Source: RHEL's kickstart reference, `part --passphrase`.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        encrypted = command.option("encrypted")
        if encrypted and not command.data.passphrase:
            yield LintFault(
                command.location,
                "--encrypted without a passphrase: the installer stops and asks",
                "let a %pre script read it, and %include the line",
            )


@risk
def luks_key_derivation(case: Case) -> Faults:
    """FIPS mode supports PBKDF2, but not Argon2, the default of LUKS 2.

    Source: RHEL's kickstart reference, `part --pbkdf`.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        if not command.option("encrypted"):
            continue
        given = command.data.pbkdf
        if command.data.luks_version != "luks1" and given != "pbkdf2":
            problem = f"--pbkdf={given}" if given else "LUKS 2 without --pbkdf uses Argon2"
            yield LintFault(
                command.location, f"{problem}: a volume that FIPS mode cannot open", "write --pbkdf=pbkdf2"
            )


@rule
def luks_options(case: Case) -> Faults:
    """PBKDF options need LUKS 2, a cipher has the form NAME-MODE-IV, and all of them need --encrypted.

    Source: blivet, `formats/luks.py`: "PBKDF arguments are valid only for LUKS version 2"; cryptsetup(8), --cipher.
    """
    for command in (*volumes(case), *case.ks.named("autopart")):
        data = command.data
        given = [name for name in PBKDF if command.option(name)]
        others = [name for name in LUKS if command.option(name)]
        cipher = str(command.option("cipher") or "")
        if not command.option("encrypted"):
            for name in (given + others)[:1]:
                option = name.replace("_", "-")
                yield LintFault(
                    command.location,
                    f"--{option} without --encrypted",
                    "add --encrypted, or leave it out",
                    risky=True,
                )
            continue
        if given and data.luks_version == "luks1":
            option = given[0].replace("_", "-")
            yield LintFault(command.location, f"--{option} with LUKS 1", "write --luks-version=luks2")
        if cipher and not CIPHER.fullmatch(cipher):
            yield LintFault(
                command.location,
                f"--cipher={cipher} is not a cipher of LUKS",
                "write --cipher=aes-xts-plain64",
            )
        least, iterations = ITERATIONS_MIN.get(data.pbkdf, 0), int(data.pbkdf_iterations or 0)
        if 0 < iterations < least:
            yield LintFault(
                command.location,
                f"--pbkdf-iterations={iterations} is too few for {data.pbkdf}",
                f"write {least} or more, or leave it out",
            )
        version = str(data.luks_version or "luks2")
        if not version.startswith(("luks1", "luks2")):
            yield LintFault(
                command.location, f"there is no --luks-version={version}", "write --luks-version=luks2"
            )
        if data.backuppassphrase and not data.escrowcert:
            yield LintFault(
                command.location,
                "--backuppassphrase without --escrowcert has no effect",
                "add --escrowcert=URL",
                risky=True,
            )
        if data.pbkdf == "pbkdf2" and data.pbkdf_memory:
            yield LintFault(
                command.location, "--pbkdf-memory: PBKDF2 needs no memory", "leave it out", risky=True
            )


@risk
def not_encrypted(case: Case) -> Faults:
    """If one partition is encrypted, all writable ones must be.

    Source: RHEL-09-231190.
    """
    encrypted = {c.data.vgname for c in case.ks.named("volgroup") if _on_encrypted(case, c.data.physvols)}
    inside = [c for c in volumes(case) if c.option("encrypted")]
    if not (complete(case) and (inside or encrypted)):
        return
    for command in volumes(case):
        mount = mount_of(command)
        covered = command.option("encrypted") or command.option("vgname") in encrypted
        written = mount.startswith(("/", "swap")) and mount not in PUBLIC and not mount.startswith("/slots/")
        if written and not covered:
            yield LintFault(
                command.location,
                f"{mount} is not encrypted, while others are",
                "add --encrypted --luks-version=luks2 --pbkdf=pbkdf2",
            )


def _on_encrypted(case: Case, members: list[str]) -> bool:
    physical = {mount_of(c): c.data for c in volumes(case)}
    found = [physical[name] for name in members if name in physical]
    return bool(found) and all(data.encrypted for data in found)
