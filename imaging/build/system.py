"""From installed packages to a system: what the commands say, the %post scripts, kernel and boot menu; then cleaned.

Cleaning leaves nothing that says when, where or on what it was built: no machine id (systemd draws one at the
first start), no host keys (sshd's service makes them), no logs, caches, seeds; no time later than the packages'
own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imaging.build.bootloader import write_menu
from imaging.build.packages import normalise
from imaging.build.sandbox import Line, run, run_inside
from imaging.build.types import Act, BuildFailed, BuildPlan, Script, SymbolicLink, SystemCommand, Write

_EMPTY: Final = ("var/cache", "var/log", "var/tmp", "tmp", "run", "dev", "proc", "sys")
"""Folders whose files go; the folders in them stay, for services expect them."""
_GONE: Final = (
    *(
        "etc/ssh/ssh_host_*",
        "var/lib/systemd/random-seed",
        "var/lib/dnf/*",
        "var/lib/rpm/.rpm.lock",
        "etc/*-",
        "root/.*history",
    ),
    *(
        "etc/.pwd.lock",
        "var/lib/NetworkManager/*",
        "var/lib/dbus/machine-id",
        "etc/resolv.conf",
        "boot/*-rescue-*",
    ),
)

_UPDATED: Final = ("etc/.updated", "var/.updated")
"""Later than /usr: what packages did is not done again at the first start (systemd-update-done.service(8))."""


def settle(root: Path, plan: BuildPlan, uuids: dict[str, str], epoch: int, told: Line) -> None:
    """Make a system of the packages in `root`; `uuids` are the file systems', by mount point. Errors: BuildFailed."""
    environment = {"SOURCE_DATE_EPOCH": str(epoch), "HOME": "/root"}
    _write(root, Write("/etc/fstab", _fstab(plan, uuids)))
    for partition in plan.partitions:
        if partition.mount.startswith("/"):
            (root / partition.mount.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for act in plan.acts:
        _do(root, act, environment, told)
    for script in plan.scripts:
        _script(root, script, environment, told)
    _kernels(root, environment, told)
    write_menu(root, plan, uuids)
    clean(root, epoch, told)


def _do(root: Path, act: Act, environment: dict[str, str], told: Line) -> None:
    match act:
        case Write():
            _write(root, act)
        case SymbolicLink(path, target):
            (place := root / path.lstrip("/")).unlink(missing_ok=True)
            place.symlink_to(target)
            if not (place.parent / target).exists():
                raise BuildFailed(f"{path}: would point to {target}, which no package has")
        case SystemCommand(argv, stdin):
            told(" ".join(argv[:2]))
            run_inside(root, argv, environment, told, stdin)


def _write(root: Path, act: Write) -> None:
    place = root / act.path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(act.text)
    place.chmod(act.mode)


def _script(root: Path, script: Script, environment: dict[str, str], told: Line) -> None:
    """Run a %post section; it lies in /var, because its /tmp is another one."""
    name = f"kickstart-{script.line}"
    place = root / "var" / name
    place.write_text(script.text)
    try:
        said = run_inside(root, [*script.interpreter.split(), f"/var/{name}"], environment, told)
    except BuildFailed as error:
        if script.must_work:
            raise BuildFailed(f"%post on line {script.line}: {error}") from None
        said = str(error)
    finally:
        place.unlink()
    if script.log:
        _write(root, Write(script.log, said))


def _kernels(root: Path, environment: dict[str, str], told: Line) -> None:
    """Put every kernel and an initramfs for any machine into /boot, where the menu looks for them."""
    versions = sorted(path.parent.name for path in (root / "usr/lib/modules").glob("*/vmlinuz"))
    if not versions:
        raise BuildFailed("no package has a kernel (/usr/lib/modules/*/vmlinuz); add kernel to %packages")
    for version in versions:
        shutil.copyfile(root / "usr/lib/modules" / version / "vmlinuz", root / "boot" / f"vmlinuz-{version}")
        told(f"initramfs of {version}")
        target = f"/boot/initramfs-{version}.img"
        run_inside(
            root, ["dracut", "--force", "--no-hostonly", "--reproducible", target, version], environment, told
        )


def clean(root: Path, epoch: int, told: Line) -> None:
    """Leave nothing that differs from one build to another."""
    for folder in _EMPTY:
        for path in _files(root / folder):
            path.unlink()
    for pattern in _GONE:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name in ("etc/machine-id", *_UPDATED):
        (root / name).write_text("")
    for folder in ("tmp", "var/tmp"):
        (root / folder).chmod(0o1777)
    normalise(root, epoch, told)
    _label(root, told)
    for path in (root, *_everything(root)):
        stat = path.lstat()
        moment = min(int(stat.st_mtime), epoch)
        os.utime(path, (moment, moment), follow_symlinks=False)


def _label(root: Path, told: Line) -> None:
    """SELinux's labels, as the system's own policy has them; without, it would not start while enforcing."""
    config = root / "etc/selinux/config"
    values = (
        dict(line.split("=", 1) for line in config.read_text().splitlines() if "=" in line)
        if config.exists()
        else {}
    )
    if values.get("SELINUX", "disabled") == "disabled":
        return
    contexts = f"etc/selinux/{values['SELINUXTYPE']}/contexts/files/file_contexts"
    if not (root / contexts).exists():
        raise BuildFailed(
            f"selinux: no package has a policy (/{contexts}); add selinux-policy-targeted to %packages"
        )
    run_inside(
        root,
        ["setfiles", "-F", "-e", "/proc", "-e", "/dev", "-e", "/sys", "-e", "/run", f"/{contexts}", "/"],
        {},
        told,
    )


def _fstab(plan: BuildPlan, uuids: dict[str, str]) -> str:
    lines = ["# made from the kickstart"]
    for partition in plan.partitions:
        if partition.mount.startswith("/"):
            kind = "vfat" if partition.format == "efi" else partition.format
            check = 1 if partition.mount == "/" else 2
            options = partition.options
            lines.append(f"UUID={uuids[partition.mount]} {partition.mount} {kind} {options} 0 {check}")
    return "\n".join(lines) + "\n"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in _everything(folder) if not path.is_dir() or path.is_symlink())


def _everything(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            yield Path(parent, name)


def copy(tree: Path, target: Path, told: Line) -> None:
    """A copy of a tree with everything: owners, hard links, capabilities and labels.

    Errors: BuildFailed, PrerequisiteMissing.
    """
    run(["cp", "--archive", "--reflink=auto", tree, target], {}, told, folder=target.parent)
