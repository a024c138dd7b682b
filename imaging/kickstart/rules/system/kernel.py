"""The kernel's command line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from imaging.kickstart.data import MIB
from imaging.kickstart.document import SourceLocation
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

BY_ANACONDA: Final = ("root", "initrd", "BOOT_IMAGE")
"""Arguments that Anaconda writes into the boot loader's entries."""
WEAKEN: Final = {
    "audit=0": "RHEL-09-212055",
    "audit=off": "RHEL-09-212055",
    "mitigations=off": "CPU vulnerabilities",
    "pti=off": "RHEL-09-212050",
    "nopti": "RHEL-09-212050",
    "vsyscall=native": "RHEL-09-212035",
    "nokaslr": "RHEL-09-213070",
}
NOT_UNATTENDED: Final = re.compile(
    r"single|[1sS]|rescue|emergency|rd\.break(=.*)?|init=.*sh|rdinit=.*sh"
    r"|systemd\.unit=(rescue|emergency)(\.target)?|systemd\.debug.shell(=1)?"
)
CONSOLE: Final = re.compile(
    r"(tty\d*|ttyS\d+|ttyAMA\d+|ttyUSB\d+|hvc\d+|netcon\d*|null|uart.*)(,\d+([noe]([78]r?)?)?)?"
)
PREDICTABLE: Final = re.compile(r"(en|wl)[ospx]\w+")
_SIZE: Final = r"\d+[KMGkmg]?"
CRASHKERNEL: Final = re.compile(
    rf"({_SIZE}(@{_SIZE}|,(high|low))?|{_SIZE}-({_SIZE})?:{_SIZE}(,{_SIZE}-({_SIZE})?:{_SIZE})*(@{_SIZE})?|auto)"
)


@rule
def crashkernel_auto(case: Case) -> Faults:
    """The kernels of RHEL 9 and 10 have no crashkernel=auto, so that no memory is reserved.

    Source: "Considerations in adopting RHEL 9", Kernel; kernel-parameters.txt, crashkernel=.
    """
    for command in case.ks.named("bootloader"):
        if "crashkernel=auto" in (command.data.appendLine or "").split():
            yield LintFault(
                command.location,
                f"{case.ks.version} has no crashkernel=auto: no memory is reserved",
                "write crashkernel=1G-4G:192M,4G-64G:256M,64G-:512M, or leave it out",
            )


@risk
def kernel_arguments(case: Case) -> Faults:
    """An argument must not contradict another one, or the kickstart.

    Source: kernel-parameters.txt: the last of several values applies; Anaconda writes root= itself.
    """
    command = case.ks.last("bootloader")
    arguments = (command.data.appendLine or "").split() if command else []
    selinux = case.ks.last("selinux")
    for argument in dict.fromkeys(arguments):
        assert command is not None
        name, _, value = argument.partition("=")
        others = {each for each in arguments if each.partition("=")[0] == name and each != argument}
        if name in BY_ANACONDA:
            yield LintFault(
                command.location, f"--append has {argument}, which Anaconda writes itself", "leave it out"
            )
        elif (
            others
            and value in ("0", "1", "off", "on", "no", "yes")
            and arguments.index(argument) > min(map(arguments.index, others))
        ):
            yield LintFault(
                command.location,
                f"--append has both {argument} and {', '.join(sorted(others))}",
                "keep one of them",
            )
        elif argument in ("selinux=0", "enforcing=0") and selinux is not None and selinux.data.selinux == 1:
            yield LintFault(
                command.location,
                f"--append has {argument}, and line {selinux.location.line} has --enforcing",
                f"leave out {argument}",
            )


@risk
def protection_off_at_start(case: Case) -> Faults:
    """The kernel arguments must not disable a protection.

    Source: the STIG rules in the finding; kernel-parameters.txt.
    """
    for location, argument in _arguments(case):
        if argument in WEAKEN:
            yield LintFault(location, f"--append has {argument} ({WEAKEN[argument]})", "leave it out")


@rule
def start_is_attended(case: Case) -> Faults:
    """Arguments for rescue or debugging make each start end in a shell that waits for a person.

    Source: systemd(1), dracut.cmdline(7), kernel-command-line(7).
    """
    for location, argument in _arguments(case):
        if NOT_UNATTENDED.fullmatch(argument):
            yield LintFault(
                location, f"--append has {argument}: the system starts only a shell", "leave it out"
            )


@rule
def argument_form(case: Case) -> Faults:
    """With a value that the kernel cannot parse, no memory is reserved, or the console has no output.

    Source: kernel-parameters.txt: console=, crashkernel=.
    """
    for location, argument in _arguments(case):
        name, _, value = argument.partition("=")
        if name == "console" and not CONSOLE.fullmatch(value):
            yield LintFault(
                location, f"{argument} is not a console", "write it like console=ttyS0,115200n8", risky=True
            )
        if name == "crashkernel" and (not CRASHKERNEL.fullmatch(value) or _downwards(value) or _tiny(value)):
            yield LintFault(
                location,
                f"{argument} is not a size of memory",
                "write it like crashkernel=1G-4G:192M,4G-:256M",
            )


@risk
def kernel_names_devices(case: Case) -> Faults:
    """With net.ifnames=0 the kernel names devices eth0, eth1, …, so that a connection for enp1s0 never starts.

    Source: systemd.net-naming-scheme(7); Anaconda binds a connection to the name of its device.
    """
    named = [c for c in case.ks.named("network") if PREDICTABLE.fullmatch(c.data.device or "")]
    for location, argument in _arguments(case):
        for command in [c for c in named if argument == "net.ifnames=0" and c.data.bindto != "mac"][:1]:
            yield LintFault(
                location,
                f"--append has {argument}, and line {command.location.line} configures {command.data.device}",
                f"leave out {argument}, or write --device=eth0 or --bindto=mac",
            )


def _arguments(case: Case) -> Iterator[tuple[SourceLocation, str]]:
    for command in case.ks.named("bootloader"):
        for argument in (command.data.appendLine or "").split():
            yield command.location, argument


def _downwards(value: str) -> bool:
    """Return whether a range of crashkernel= ends before it begins."""
    ranges = re.findall(rf"({_SIZE})-({_SIZE}):", value)
    return any(_bytes(first) >= _bytes(last) for first, last in ranges)


def _tiny(value: str) -> bool:
    """Return whether the size to reserve is in bytes, because its unit is missing."""
    return any(0 < int(size) < MIB for size in re.findall(r"(?:^|:)(\d+)(?![\dKMGkmg-])", value))


def _bytes(text: str) -> int:
    return int(text.rstrip("KMGkmg")) << 10 * " KMG".index(text[-1].upper() if text[-1].isalpha() else " ")
