"""Mount points and mount options."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.document import KickstartCommand
from imaging.kickstart.limits import FORMATS, GENERAL_OPTIONS, ON_ROOT
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.storage.partitions import SEPARATE
from imaging.kickstart.volumes import NOT_MOUNTED, PREFIXES, mount_of, volumes

BY_KERNEL: Final = ("/dev/", "/proc/", "/run/", "/sys/")
MOUNT_OPTIONS: Final = {
    **dict.fromkeys(SEPARATE, ("nodev", "nosuid", "noexec")),
    "/var": ("nodev",),
    "/var/lib/rap": ("nodev", "nosuid", "noexec"),
}
SPECIAL: Final = (*NOT_MOUNTED, "appleboot", "none", "None", "swap")
NEEDED_AT_START: Final = ("/", "/usr", "/var", "/boot", "/home", "/var/log", "/var/log/audit")
EXECUTES: Final = ("/", "/usr", "/usr/bin", "/usr/lib")
_OCTAL, _NUMBER = r"[0-7]{1,5}", r"\d+"
VALUES: Final = {
    **dict.fromkeys(("umask", "dmask", "fmask", "mode"), _OCTAL),
    **dict.fromkeys(
        ("commit", "stripe", "uid", "gid", "nr_inodes", "max_batch_time", "min_batch_time"),
        rf"{_NUMBER}[kmg]?",
    ),
    "size": r"\d+(%|[kmgtKMGT])?",
    "data": "journal|ordered|writeback",
    "errors": "continue|remount-ro|panic",
    "barrier": "[01]",
    "logbufs": "[2-8]",
    "pri": r"-?\d+",
}
"""The forms of the values of mount options."""
SETUID: Final = ("/", "/usr", "/usr/bin")


@risk
def swap_with_mount_options(case: Case) -> Faults:
    """swapon supports discard, pri and nofail; other mount options have no effect.

    Source: fstab(5), swapon(8).
    """
    for command in volumes(case):
        given = [option.split("=")[0] for option in (command.data.fsopts or "").split(",") if option]
        wrong = [
            option
            for option in given
            if option not in ("defaults", "discard", "pri", "nofail", "noauto", "sw")
        ]
        if mount_of(command).startswith("swap") and wrong:
            yield LintFault(
                command.location, f"swap has no option {', '.join(wrong)}", "leave --fsoptions out"
            )


@risk
def mount_options(case: Case) -> Faults:
    """File systems for data are mounted with nodev, nosuid and noexec.

    Source: RHEL-09-231045 to 231185.
    """
    for command in volumes(case):
        given = (command.data.fsopts or "").split(",")
        missing = [option for option in MOUNT_OPTIONS.get(mount_of(command), ()) if option not in given]
        if missing:
            yield LintFault(
                command.location,
                f"{mount_of(command)} is mounted without {','.join(missing)}",
                "add them to --fsoptions",
            )


@rule
def mount_point_form(case: Case) -> Faults:
    """A mount point is an absolute path without spaces or two leading slashes.

    Source: Anaconda, `_check_mount_point`: "It must start with a /"; fstab(5).
    """
    for command in volumes(case):
        mount = mount_of(command)
        if mount in SPECIAL or mount.startswith(PREFIXES) or command.option("thin_pool"):
            continue
        path = mount.startswith("/") and not re.search(r"\s|^//", mount)  # pykickstart normalizes the rest
        if mount and not path:
            right = "/" + re.sub(r"/+", "/", mount).strip("/ ").replace(" ", "-")
            yield LintFault(command.location, f"{mount!r} is not a mount point", f"write it like {right}")


@rule
def directory_of_root(case: Case) -> Faults:
    """Some directories must be on the root file system, and the kernel mounts file systems of its own below others.

    Source: Anaconda, `data/anaconda.conf`, must_be_on_root; systemd, "API File Systems".
    """
    for command in volumes(case):
        mount = mount_of(command)
        if mount in ON_ROOT or mount.startswith(BY_KERNEL):
            yield LintFault(
                command.location,
                f"{mount} must be a directory of /",
                "leave the partition out, and enlarge /",
            )


@rule
def mount_option_unknown(case: Case) -> Faults:
    """An option that the file system does not support makes its mount fail; the start then ends in emergency mode.

    Source: mount(8), ext4(5), xfs(5); fstab(5).
    """
    for command in volumes(case):
        limits = FORMATS.get(command.data.fstype)
        for option in _options(command) if mount_of(command) != "swap" else ():
            name = option.partition("=")[0]
            known = GENERAL_OPTIONS.fullmatch(option) or GENERAL_OPTIONS.fullmatch(name)
            if limits is not None and not known and not re.fullmatch(limits.options, name):
                yield LintFault(
                    command.location,
                    f"{command.data.fstype} has no mount option {option!r}",
                    "correct it, or leave it out",
                )


@rule
def mount_prevents_start(case: Case) -> Faults:
    """The system cannot start from file systems whose programs may not run or that are not mounted.

    Source: mount(8), noexec, noauto and ro; systemd.mount(5).
    """
    for command in volumes(case):
        mount, given = mount_of(command), _options(command)
        wrong = [
            *(option for option in ("noexec",) if mount in EXECUTES),
            *(option for option in ("nosuid",) if mount in SETUID),
            *(option for option in ("noauto", "ro") if mount in NEEDED_AT_START),
        ]
        for option in [option for option in wrong if option in given]:
            yield LintFault(
                command.location,
                f"{mount} is mounted {option}",
                f"leave {option} out of --fsoptions",
                risky=option in ("nosuid", "ro") or mount == "/boot",
            )


@rule
def mount_option_value(case: Case) -> Faults:
    """The kernel refuses a mount with an invalid value of an option, and a field of fstab(5) ends at a blank.

    Source: mount(8), ext4(5), xfs(5), tmpfs(5); fstab(5).
    """
    for command in volumes(case):
        if re.search(r"\s", command.data.fsopts or ""):
            yield LintFault(
                command.location,
                f"--fsoptions={command.data.fsopts!r} has a blank, which ends the field of fstab",
                "separate the options with commas alone",
            )
        for option in _options(command):
            name, sign, value = option.partition("=")
            form = VALUES.get(name)
            if form and sign and not re.fullmatch(form, value):
                yield LintFault(
                    command.location,
                    f"{option}: {value!r} is not a value of {name}",
                    "write a value that mount(8) lists",
                )


@risk
def mount_options_contradict(case: Case) -> Faults:
    """The later of two opposite mount options applies.

    Source: mount(8).
    """
    for command in volumes(case):
        given = _options(command)
        for option in given:
            opposite = {"rw": "ro", "sync": "async"}.get(option, f"no{option}")
            if opposite in given:
                yield LintFault(
                    command.location,
                    f"{mount_of(command)} is mounted {option} and {opposite}",
                    "keep one of them",
                )
        valued = [option for option in given if "=" in option and not option.startswith(("x-", "X-"))]
        for option in valued:
            other = next(
                (each for each in valued if each != option and each.split("=")[0] == option.split("=")[0]), ""
            )
            if other and valued.index(other) < valued.index(option):
                yield LintFault(
                    command.location,
                    f"{mount_of(command)} is mounted {other} and {option}",
                    "keep one of them",
                )


def _options(command: KickstartCommand) -> list[str]:
    return [
        option.strip()
        for option in re.findall(r'(?:[^,"]|"[^"]*")+', command.data.fsopts or "")
        if option.strip()
    ]
