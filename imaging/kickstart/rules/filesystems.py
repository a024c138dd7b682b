"""Limits of file systems: sizes, labels, mount points and mount options."""

from __future__ import annotations

import re
from typing import Final

from imaging.kickstart.document import KickstartCommand, Spot
from imaging.kickstart.limits import FORMATS, GENERAL_OPTIONS, ON_LINUX, ON_ROOT, FormatLimits
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule
from imaging.kickstart.rules.storage import NOT_MOUNTED, PREFIXES, mount_of, reuses, size_mib, volumes

SPECIAL: Final = (*NOT_MOUNTED, "appleboot", "none", "None", "swap")
NEEDED_AT_START: Final = ("/", "/usr", "/var", "/boot", "/home", "/var/log", "/var/log/audit")
EXECUTES: Final = ("/", "/usr", "/usr/bin", "/usr/lib")
SETUID: Final = ("/", "/usr", "/usr/bin")


def limits_of(command: KickstartCommand) -> FormatLimits | None:
    """The limits of the file system or member that a command makes, where it is known."""
    mount = mount_of(command)
    if mount.startswith("pv."):
        return FORMATS["lvmpv"]
    given = "swap" if mount == "swap" else mount if mount in NOT_MOUNTED else command.data.fstype
    return FORMATS.get(given)


@rule
def format_size(case: Case) -> Faults:
    """Each file system has a least and a largest size.

    Source: blivet, `formats/`, _min_size and _max_size; Anaconda, `verify_partition_format_sizes`.
    """
    for command in volumes(case):
        limits, size = limits_of(command), size_mib(command)
        largest = int(getattr(command.data, "maxSizeMB", 0) or 0)
        grows = getattr(command.data, "grow", False)
        final = (largest or max(size, limits.min_mib if limits else 0)) if grows else size
        if limits is None or not (final or largest) or reuses(command.data):
            continue
        what = command.data.fstype or mount_of(command)
        if final < limits.min_mib:
            yield LintFault(
                command.spot,
                f"{final} MiB is too small for {what}",
                f"write at least --size={limits.min_mib:g}",
            )
        elif limits.max_mib and size > limits.max_mib:
            yield LintFault(
                command.spot,
                f"{size} MiB is too large for {what}",
                f"write at most --size={int(limits.max_mib)}",
            )


@rule
def label_too_long(case: Case) -> Faults:
    """A label has a largest number of bytes, and blivet fails while it formats, when the disk is cleared already.

    Source: libblockdev, `bd_fs_*_check_label`; mkfs.ext4(8), mkfs.xfs(8), mkfs.fat(8), mkswap(8).
    """
    for command in volumes(case):
        limits, label = limits_of(command), str(command.data.label or "")
        if limits is None or not label or not limits.label_bytes:
            continue
        what = command.data.fstype or mount_of(command)
        if len(label.encode()) > limits.label_bytes:
            yield LintFault(
                command.spot,
                f"label {label!r} has {len(label.encode())} bytes; {what} has room for {limits.label_bytes}",
                "shorten it",
            )
        elif (what == "xfs" and " " in label) or (
            what in ("vfat", "efi") and re.search(r'[*?.,;:/\\|+=<>\[\]"]', label)
        ):
            yield LintFault(
                command.spot,
                f"label {label!r} has characters that {what} does not take",
                "use letters and digits",
            )


@risk
def label_twice(case: Case) -> Faults:
    """Labels by which file systems are mounted or found must be unique.

    Source: mount(8), "LABEL=": which of two is taken is not defined.
    """
    seen: dict[str, Spot] = {}
    for command in volumes(case):
        label = str(command.data.label or "")
        if label and label in seen:
            yield LintFault(
                command.spot, f"label {label!r} is already used in line {seen[label].line}", "rename one"
            )
        seen.setdefault(label, command.spot)


@rule
def mount_point_form(case: Case) -> Faults:
    """A mount point is an absolute path without spaces or two leading slashes.

    Source: Anaconda, `_check_mount_point`: "It must start with a /"; fstab(5).
    """
    for command in volumes(case):
        mount = mount_of(command)
        if mount in SPECIAL or mount.startswith(PREFIXES) or getattr(command.data, "thin_pool", False):
            continue
        path = mount.startswith("/") and not re.search(r"\s|^//", mount)  # pykickstart normalizes the rest
        if mount and not path:
            right = "/" + re.sub(r"/+", "/", mount).strip("/ ").replace(" ", "-")
            yield LintFault(command.spot, f"{mount!r} is not a mount point", f"write it like {right}")


@rule
def directory_of_root(case: Case) -> Faults:
    """Some directories must be on the root file system.

    Source: Anaconda, `data/anaconda.conf`, must_be_on_root.
    """
    for command in volumes(case):
        if mount_of(command) in ON_ROOT:
            yield LintFault(
                command.spot,
                f"{mount_of(command)} must be a directory of /",
                "leave the partition out, and enlarge /",
            )


@rule
def not_a_linux_file_system(case: Case) -> Faults:
    """The system's directories need owners and permissions.

    Source: Anaconda, `data/anaconda.conf`, must_be_on_linuxfs.
    """
    for command in volumes(case):
        limits = FORMATS.get(command.data.fstype)
        if mount_of(command) in ON_LINUX and limits is not None and not limits.linux:
            yield LintFault(
                command.spot,
                f"{mount_of(command)} is {command.data.fstype}, without owners and permissions",
                "write --fstype=xfs or ext4",
            )


@rule
def mount_option_unknown(case: Case) -> Faults:
    """A mount fails with an option that the file system does not know, and the first start ends in emergency mode.

    Source: mount(8), ext4(5), xfs(5); fstab(5).
    """
    for command in volumes(case):
        limits = FORMATS.get(command.data.fstype)
        for word in _options(command) if mount_of(command) != "swap" else ():
            name = word.partition("=")[0]
            known = GENERAL_OPTIONS.fullmatch(word) or GENERAL_OPTIONS.fullmatch(name)
            if limits is not None and not known and not re.fullmatch(limits.options, name):
                yield LintFault(
                    command.spot,
                    f"{command.data.fstype} has no mount option {word!r}",
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
            *(word for word in ("noexec",) if mount in EXECUTES),
            *(word for word in ("nosuid",) if mount in SETUID),
            *(word for word in ("noauto", "ro") if mount in NEEDED_AT_START),
        ]
        for word in [word for word in wrong if word in given]:
            yield LintFault(
                command.spot,
                f"{mount} is mounted {word}",
                f"leave {word} out of --fsoptions",
                risky=word in ("nosuid", "ro") or mount == "/boot",
            )


@risk
def mount_options_contradict(case: Case) -> Faults:
    """The later of two opposite mount options applies.

    Source: mount(8).
    """
    for command in volumes(case):
        given = _options(command)
        for word in given:
            opposite = {"rw": "ro", "sync": "async"}.get(word, f"no{word}")
            if opposite in given:
                yield LintFault(
                    command.spot, f"{mount_of(command)} is mounted {word} and {opposite}", "keep one of them"
                )


def _options(command: KickstartCommand) -> list[str]:
    return [
        word.strip() for word in re.findall(r'(?:[^,"]|"[^"]*")+', command.data.fsopts or "") if word.strip()
    ]
