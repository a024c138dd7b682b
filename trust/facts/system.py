"""The kernel and the disk: command line, settings, SELinux, mounts, encryption, Secure Boot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from trust.fact import Fact, fact, names, settings_lines
from trust.machine import ExaminedBox
from trust.policy_evidence import policy_of

SYSCTL: Final = "/etc/sysctl.d/99-rap.conf"
PLACE_WORDS: Final = (
    *("root=", "boot=", "BOOT_IMAGE=", "initrd=", "resume="),
    *("rap.slot=", "rap.volumes=", "systemd.machine_id="),
)
"""Words of the command line that name a device or this machine, or that the boot loader adds: an image has none."""

FORWARDING: Final = (".forwarding", ".ip_forward")
"""Suffixes of the names of settings that the firewall service changes on a box with remote sessions."""
BY_THE_FIREWALL: Final = "(by the firewall's rules: only sessions that a person permitted)"
ENTRIES_ROW: Final = "/boot/loader/entries none bind,ro,nodev,nosuid,noexec,nofail"
"""The line that the initramfs adds to /etc/fstab at each start (`rap-etc.sh`): an image has no such line."""


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the state of the system."""
    yield from _command_line(machine)
    yield from _sysctl(machine)
    if selinux := machine.file("/etc/selinux/config"):
        yield fact("system.selinux", settings_lines(selinux.text), selinux)
    if fstab := machine.file("/etc/fstab"):
        rows = [line.split() for line in settings_lines(fstab.text)]
        mounts = {f"{row[1]} {row[2]} {row[3]}" for row in rows if len(row) > 3} - {ENTRIES_ROW}
        yield fact("system.mounts", sorted(mounts), fstab)
    encrypted = machine.file("/etc/crypttab")
    listed = machine.paths("/etc/crypttab")
    lines = settings_lines(encrypted.text) if encrypted else []
    yield fact("system.encrypted-volumes", [line.split()[0] for line in lines], encrypted or listed)
    if secure := machine.command("mokutil", "--sb-state"):
        yield fact("system.secure-boot", secure.text.strip(), secure)


def _command_line(machine: ExaminedBox) -> Iterator[Fact]:
    running = machine.file("/proc/cmdline")
    if running:
        yield fact("system.kernel-options", _options(running.text), running)
        return
    listed = machine.paths("/boot/loader/entries/*")
    files = [file for path in names(listed) if (file := machine.file(path))]
    lines = [line for file in files for line in settings_lines(file.text) if line.startswith("options ")]
    if lines:
        options = {word for line in lines for word in _options(line.removeprefix("options "))}
        yield fact("system.kernel-options", sorted(options), listed, *files)


def _options(line: str) -> list[str]:
    return sorted(
        word for word in line.split() if not word.startswith(PLACE_WORDS) and word not in ("ro", "rw")
    )


def _sysctl(machine: ExaminedBox) -> Iterator[Fact]:
    file = machine.file(SYSCTL)
    if file is None:
        return
    values, evidence = [], [file]
    policy_evidence = policy_of(machine)
    has_tunnel = policy_evidence is not None and policy_evidence[0].tunnel is not None
    if policy_evidence is not None:
        evidence += policy_evidence[1]
    runs = machine.file("/proc/sys/kernel/ostype")
    for line in settings_lines(file.text):
        name, _, value = (part.strip() for part in line.lstrip("-").partition("="))
        current = machine.file("/proc/sys/" + name.replace(".", "/"))
        if has_tunnel and name.endswith(FORWARDING):
            value = BY_THE_FIREWALL
        elif current:
            evidence.append(current)
            value = " ".join(current.text.split())
        elif runs:
            value = "(the kernel has no such setting)"
        values.append(f"{name} = {value}")
    yield fact("system.kernel-settings", sorted(values), *evidence, runs)
