"""FIPS mode, encryption, SELinux and the firewall."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.document import Section, here_document
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.storage import complete, mount_of, volumes

PUBLIC: Final = ("/", "/boot", "/boot/efi", "biosboot", "prepboot")
"""Partitions that a machine boots from, which contain no secrets and need no encryption."""
_REDIRECT: Final = re.compile(r">\s*(\S+\.service(?:\.d/\S+\.conf)?)\s+<<")


@risk
def fips_missing(case: Case) -> Faults:
    """FIPS mode is enabled by a kernel argument.

    Source: RHEL-09-671010; RHEL 10 has no fips-mode-setup.
    """
    command = case.ks.last("bootloader")
    if (command is None and case.ks.open_ended) or (command is not None and command.data.disabled):
        return
    words = (command.data.appendLine or "").split() if command else []
    if "fips=1" not in words:
        given = next((word for word in words if word.startswith("fips=")), "no fips=1")
        yield LintFault(
            command.spot if command else case.ks.top,
            f"the kernel's command line has {given}",
            'write `bootloader --append="fips=1"`',
        )


@rule
def fips_mode_setup(case: Case) -> Faults:
    """RHEL 10 has no fips-mode-setup.

    Source: "Considerations in adopting RHEL 10", Security.
    """
    if case.ks.version == "RHEL9":
        return
    for section in case.ks.of("%post"):
        for spot, text in section.lines():
            if "fips-mode-setup" in text and not text.lstrip().startswith("#"):
                yield LintFault(
                    spot,
                    f"{case.ks.version} has no fips-mode-setup",
                    "start the installer with fips=1, and keep it in bootloader --append",
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


@risk
def selinux_off(case: Case) -> Faults:
    """SELinux is in enforcing mode.

    Source: RHEL-09-431010.
    """
    command = case.ks.last("selinux")
    if command is not None and command.data.selinux != 1:
        yield LintFault(command.spot, "SELinux is not in enforcing mode", "write `selinux --enforcing`")


@risk
def firewall_off(case: Case) -> Faults:
    """firewalld is installed and enabled.

    Source: RHEL-09-251010, 251015.
    """
    command = case.ks.last("firewall")
    network = next(case.ks.named("network"), None)
    if network is not None and not case.ks.has_command("firewall"):
        yield LintFault(
            network.spot, "a network is configured without a firewall", "write `firewall --enabled`"
        )
    elif command is not None and not command.data.enabled:
        yield LintFault(command.spot, "the firewall is off", "write `firewall --enabled`")


@risk
def network_before_firewall(case: Case) -> Faults:
    """The firewall must be loaded before the network starts.

    Source: systemd.special(7), network-pre.target.
    """
    for section in case.ks.of("%post"):
        for spot, text in section.lines():
            target = match[1] if (match := _REDIRECT.search(text)) else ""
            if "firewall" in target or "nftables" in target:
                yield from _late(section, target)
            if re.search(r"systemctl\s+(disable|mask)\b.*\b(firewalld|nftables|rap-firewall)\b", text):
                yield LintFault(spot, "the firewall is disabled after its installation", "remove the command")


def _late(section: Section, target: str) -> Faults:
    """Dependencies of a firewall unit on the network."""
    if "NetworkManager.service.d" in target:
        return
    for spot, text in here_document(section, target):
        key, _, value = text.partition("=")
        if key.strip() in ("After", "Wants", "Requires") and re.search(r"\bnetwork(-online)?\.target", value):
            yield LintFault(
                spot,
                f"{target} waits for the network: {text}",
                "write Before=network-pre.target and Wants=network-pre.target",
            )


def _on_encrypted(case: Case, members: list[str]) -> bool:
    physical = {mount_of(c): c.data for c in volumes(case)}
    found = [physical[name] for name in members if name in physical]
    return bool(found) and all(data.encrypted for data in found)
