"""The boot loader of an image: GRUB for BIOS and UEFI, and a menu whose script chooses a slot.

BIOS: the first 440 bytes of the disk are GRUB's boot.img, which loads the first sector of core.img from the BIOS boot
partition, which loads the rest; the sector numbers are written into both (GRUB's manual, "Images"; at 0x5c in boot.S,
at 0x1f4 in diskboot.S). `grub-install` does the same on a running machine.

UEFI: packages put the signed programs on the EFI system partition. A short configuration next to each
program finds /boot by the UUID of its file system, as Anaconda writes it.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import BinaryIO, Final

from imaging.build.boot.slot_script import ARGUMENTS, FUNCTIONS, SLOT_SCRIPT
from imaging.build.sandbox import LogCallback, run
from imaging.build.types import BuildFailed, BuildPlan, DiskIds
from settings import identity_archive, slots

SECTOR: Final = 512
CODE_BYTES: Final = 440
"""The size of the boot code, which precedes the disk signature and the protective partition table."""
_KERNEL_SECTOR: Final = 0x5C
_DRIVE_CHECK: Final = 0x66
_BLOCKLIST: Final = 0x1F4
MODULES: Final = (
    *("biosdisk", "part_gpt", "ext2", "normal", "search", "search_fs_uuid", "configfile", "linux", "test"),
    *("all_video", "password_pbkdf2", "gzio", "echo", "serial", "terminal", "minicmd", "reboot", "halt"),
    *("loadenv", "regexp", "sleep"),
)
MENU: Final = "boot/grub2/grub.cfg"
USER: Final = "boot/grub2/user.cfg"
ENTRIES: Final = "boot/loader/entries"
"""The folder of an entry for the kernel (Boot Loader Specification, type 1), for checks only: GRUB does not read it.

On a running box, dracut's module rap-etc replaces the entry by one for the running kernel.
"""
_UNATTENDED: Final = "panic=10 rd.shell=0 rd.emergency=reboot"
"""Kernel arguments that make the machine restart if a start fails before systemd runs."""
_ENTRIES: Final = """
menuentry "RAP box" --unrestricted {
  choose_slot
  start_slot
  other_slot
  start_slot
  sleep 10
  reboot
}
menuentry "slot a" {
  set slot=a
  start_slot
}
menuentry "slot b" {
  set slot=b
  start_slot
}
"""
"""The first entry starts the chosen slot, or the other one if its kernel cannot be loaded."""
BOOT_SUPERUSER: Final = "boxkeeper"
"""The boot loader's superuser: not a common name (RHEL-09-212020)."""


def write_menu(root: Path, plan: BuildPlan, ids: DiskIds) -> None:
    """Write the menu, the script that starts the newest kernel of this slot, and the configuration for UEFI."""
    versions = (path.name.removeprefix("vmlinuz-") for path in (root / "boot").glob("vmlinuz-*"))
    version = max(versions, key=_version_key, default="")
    (root / SLOT_SCRIPT).write_text(_slot_script(plan, version))
    (menu := root / MENU).parent.mkdir(parents=True, exist_ok=True)
    menu.write_text(_menu(plan, ids))
    menu.chmod(0o600)
    _write_password(root, plan.boot_password_hash)
    (entries := root / ENTRIES).mkdir(parents=True, exist_ok=True)
    for old in entries.iterdir():
        old.unlink()
    (entries / f"rap-{version}.conf").write_text(_entry(plan, ids, version))
    redirect = f"search --no-floppy --fs-uuid --set=dev {ids.file_systems['/boot']}\n"
    redirect += "set prefix=($dev)/grub2\nexport prefix\nconfigfile $prefix/grub.cfg\n"
    for folder in (root / "boot/efi/EFI").glob("*"):
        (folder / "grub.cfg").write_text(redirect)


def _write_password(root: Path, hashed: str) -> None:
    """Write the superuser's password where grub2-setpassword(8) changes it (RHEL-09-212010), and link the menu."""
    if hashed:
        (user := root / USER).write_text(f"GRUB2_PASSWORD={hashed}\n")
        user.chmod(0o600)
    if not (link := root / "etc/grub2.cfg").is_symlink():
        link.symlink_to("../boot/grub2/grub.cfg")


def _version_key(version: str) -> list[tuple[int, str]]:
    return [(int(number or 0), text) for number, text in re.findall(r"(\d+)|(\D+)", version)]


def _slot_script(plan: BuildPlan, version: str) -> str:
    """Return the script of a slot, which loads its kernel with its arguments (`imaging.build.boot.slot_script`)."""
    return (
        f"linux /boot/vmlinuz-{version} ${ARGUMENTS} {_arguments(plan)}\n"
        f"initrd /boot/initramfs-{version}.img\n"
    )


def _entry(plan: BuildPlan, ids: DiskIds, version: str) -> str:
    root = ids.partitions.get(slots.PARTITIONS["a"], "")
    return (
        f"title {version}\nversion {version}\nlinux /boot/vmlinuz-{version}\n"
        f"initrd /boot/initramfs-{version}.img\noptions root=PARTUUID={root} ro {_arguments(plan)}\n"
    )


def _arguments(plan: BuildPlan) -> str:
    return f"{plan.kernel_arguments} {_UNATTENDED}".lstrip()


def _menu(plan: BuildPlan, ids: DiskIds) -> str:
    numbers = {partition.name: number for number, partition in enumerate(plan.disk_partitions, 1)}
    lines = [
        "# made from the kickstart",
        "serial --unit=0 --speed=115200",
        "terminal_input console serial",
        "terminal_output console serial",
    ]
    lines += ["set default=0", f"set timeout={plan.boot_timeout_s}"]
    if plan.boot_password_hash:
        lines += [
            f'set superusers="{BOOT_SUPERUSER}"',
            "export superusers",
            "source $prefix/user.cfg",
            f"password_pbkdf2 {BOOT_SUPERUSER} $GRUB2_PASSWORD",
        ]
    lines += [
        f"search --no-floppy --fs-uuid --set=root {ids.file_systems['/boot']}",
        # the other partitions are found by their numbers on the same disk, because both slots have the same UUID
        "regexp --set=1:disk '^(.*),gpt[0-9]+$' \"$root\"",
        f'set state="$disk,gpt{numbers[slots.BOOT_STATE]}"',
    ]
    for slot, name in slots.PARTITIONS.items():
        if name in numbers:
            lines += [
                f'set slot_{slot}="$disk,gpt{numbers[name]}"',
                f"set partuuid_{slot}={ids.partitions[name]}",
            ]
    volumes = [(p.mount, ids.file_systems[p.mount]) for p in plan.partitions if p.mount.startswith("/")]
    listed = ",".join(f"{mount}={own}" for mount, own in volumes if mount != "/")
    lines += [f'set volumes="{listed}"', f"set machine_id={ids.partitions[identity_archive.LABEL]}"]
    # the first entry is --unrestricted; a password is needed to choose a slot, to edit an entry or to use GRUB's
    # command line
    return "\n".join(lines) + "\n" + FUNCTIONS + _ENTRIES


def install_bios(disk: BinaryIO, core: bytes, boot: bytes, core_sector: int) -> None:
    """Write GRUB for BIOS: `boot` (boot.img) to the first sector, `core` to the BIOS boot partition."""
    first = bytearray(boot[:CODE_BYTES])
    struct.pack_into("<Q", first, _KERNEL_SECTOR, core_sector)
    first[_DRIVE_CHECK : _DRIVE_CHECK + 2] = b"\x90\x90"  # as grub-setup does for hard disks
    changed = bytearray(core)
    struct.pack_into("<Q", changed, _BLOCKLIST, core_sector + 1)
    disk.seek(0)
    disk.write(first)
    disk.seek(core_sector * SECTOR)
    disk.write(changed)


def core_image(
    root: Path, boot_partition: int, space_bytes: int, folder: Path, log: LogCallback
) -> tuple[bytes, bytes]:
    """Return GRUB's core.img and boot.img for BIOS, made from the packages of the image in `root`.

    `boot_partition` is the number of /boot's partition; core.img must not exceed `space_bytes`.
    Raises: BuildFailed, PrerequisiteMissing.
    """
    modules = root / "usr/lib/grub/i386-pc"
    if not (modules / "boot.img").exists():
        raise BuildFailed("no package has GRUB for BIOS (/usr/lib/grub/i386-pc); add grub2-pc to %packages")
    core = folder / "core.img"
    program = "grub2-mkimage" if os.path.exists("/usr/bin/grub2-mkimage") else "grub-mkimage"  # noqa: PTH110
    command = [
        program,
        "--directory",
        modules,
        "--format",
        "i386-pc",
        "--prefix",
        f"(hd0,gpt{boot_partition})/grub2",
    ]
    available = [name for name in MODULES if (modules / f"{name}.mod").exists()]
    run([*command, "--output", core, *available], {}, log)
    data = core.read_bytes()
    core.unlink()
    if len(data) > space_bytes:
        raise BuildFailed(
            f"GRUB for BIOS has {len(data):,} bytes, but its partition (biosboot) has only {space_bytes:,}"
        )
    return data, (modules / "boot.img").read_bytes()
