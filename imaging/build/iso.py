"""Making installer ISOs: a kickstart, the box's repository and boot entries are added to a RHEL-compatible boot ISO.

Of the disc's own files, only the menus are changed: GRUB's for UEFI, on the disc and inside the EFI system partition
that the firmware reads, and the menu of ISOLINUX or GRUB for BIOS. `xorriso -boot_image any replay` keeps all boot
methods of the disc: El Torito for both kinds of firmware, and the boot sector and partition table of a USB stick.

On discs of RHEL 9, the EFI system partition is a file (`images/efiboot.img`); on other discs it follows all files and
has no name. In both cases the El Torito catalog has its position, where the menu is replaced in the finished disc.

The only entry of each menu installs unattended, with `fips=1` and an `inst.ks=` that names the label of the disc.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from imaging.build.sandbox import LogCallback, run
from imaging.build.types import BuildFailed
from imaging.kickstart.document import read
from imaging.kickstart.lint import version_of
from imaging.programs import require_programs
from imaging.signing import Manifest, describe, write_manifest

KICKSTART: Final = "box.ks"
REPOSITORY: Final = "rap-box"
"""The folder of the disc with the box's own package, as the kickstart names it."""
EFI_MENU: Final = "EFI/BOOT/grub.cfg"
MENUS: Final = (EFI_MENU, "boot/grub2/grub.cfg", "isolinux/isolinux.cfg", "isolinux/grub.conf")
TIMEOUT_S: Final = 5
_LABEL: Final = re.compile(r"^Volume id *: *'(.*)'$", re.MULTILINE)
_EFI_IMAGE: Final = re.compile(r"^El Torito boot img : +\d+ +UEFI .* (\d+)$", re.MULTILINE)
_BLOCK_BYTES: Final = 2048
_GRUB_ENTRY: Final = re.compile(r"^[ \t]*menuentry .*?^[ \t]*\}[ \t]*$", re.MULTILINE | re.DOTALL)
_GRUB_SUBMENU: Final = re.compile(r"^[ \t]*submenu .*?^\}[ \t]*$", re.MULTILINE | re.DOTALL)
_KERNEL: Final = re.compile(r"^[ \t]*(linux\w*)[ \t]+(\S+)", re.MULTILINE)
_INITRD: Final = re.compile(r"^[ \t]*(initrd\w*)[ \t]+(\S+)", re.MULTILINE)


class IsoError(Exception):
    """The ISO cannot be used; the message states what is missing or wrong."""


def make_iso(
    source: Path, kickstart: Path, repositories: Sequence[Path], target: Path, log: LogCallback
) -> None:
    """Add kickstart and repositories to the ISO `source`, and write it to `target`.

    Raises: IsoError, KickstartUnreadable, UnknownVersion, BuildFailed, PrerequisiteMissing.
    """
    require_programs(("xorriso", "mcopy"))
    if not source.is_file():
        raise IsoError(f"{source}: is not a file; give the boot ISO of a RHEL-compatible distribution")
    label = _label_of(source, log)
    with tempfile.TemporaryDirectory(prefix="rap-iso-", dir=target.parent) as name:
        folder = Path(name)
        changed = dict(_menus(source, folder, _arguments(label), log))
        if not changed:
            raise IsoError(
                f"{source}: has none of the boot menus of a RHEL-compatible ISO ({', '.join(MENUS)})"
            )
        _check_source(source, kickstart, log)
        maps = [argument for inside, file in changed.items() for argument in ("-map", file, f"/{inside}")]
        maps += ["-map", kickstart, f"/{KICKSTART}"]
        for repository in repositories:
            maps += ["-map", repository, f"/{REPOSITORY}"]
        part = folder / "made.iso"
        command = [
            "xorriso",
            "-indev",
            source,
            "-outdev",
            part,
            "-boot_image",
            "any",
            "replay",
            "-overwrite",
            "on",
            *maps,
        ]
        run([*command, "-end"], {}, log, folder=target.parent)
        if EFI_MENU in changed:
            _replace_efi_menu(part, changed[EFI_MENU], log)
        part.replace(target)


def _check_source(source: Path, kickstart: Path, log: LogCallback) -> None:
    """Check that `cdrom` finds packages on the medium. Raises: IsoError, KickstartUnreadable."""
    ks = read(kickstart, version_of(kickstart))
    cdrom, ignore = ks.last("cdrom"), ks.last("ignoredisk")
    if cdrom is None:
        return
    listed = run(["xorriso", "-indev", source, "-find", "/", "-name", "repomd.xml", "-exec", "echo"], {}, log)
    if "repomd.xml" not in listed:
        raise IsoError(
            f"{kickstart}:{cdrom.location.line}: cdrom: {source} has no packages (no repodata/repomd.xml); "
            "give a DVD ISO, or write `url` or `harddrive` with another source"
        )
    if ignore is not None and ignore.data.onlyuse:
        raise IsoError(
            f"{kickstart}:{ignore.location.line}: ignoredisk --only-use hides a USB stick with this ISO from cdrom; "
            "leave the line out"
        )


def sign_iso(iso: Path, source: Path, kickstart: Path, key: Ed25519PrivateKey) -> list[Path]:
    """Write the manifest of an ISO and its signature, and return the paths of both. Raises: OSError.

    Their names contain the name of the ISO, because a disk image of the same kickstart has a manifest too.
    """
    manifest = iso.with_name(f"{iso.name}.manifest.json")
    about = {"kickstart": kickstart.name, "source": source.name, "source_sha256": describe(source).sha256}
    signature = write_manifest(Manifest(name=iso.stem, files=[describe(iso)], about=about), manifest, key)
    return [manifest, signature]


def _arguments(label: str) -> str:
    """Return the kernel's arguments; spaces in the label are escaped as dracut requires.

    They are not quoted in GRUB's menu, as in lorax's own menus: RHEL's GRUB passes \\x20 on unchanged.
    """
    disc = f"hd:LABEL={label.replace(' ', chr(92) + 'x20')}"
    return f"inst.stage2={disc} inst.ks={disc}:/{KICKSTART} fips=1"


def _label_of(source: Path, log: LogCallback) -> str:
    try:
        match = _LABEL.search(run(["xorriso", "-indev", source, "-pvd_info"], {}, log))
    except BuildFailed:
        match = None
    if not match or not match[1]:
        raise IsoError(
            f"{source}: is not an ISO with a label; give the boot ISO of a RHEL-compatible distribution"
        )
    return match[1]


def _menus(source: Path, folder: Path, arguments: str, log: LogCallback) -> Iterator[tuple[str, Path]]:
    """Yield each changed menu: its path on the disc, and the file with its new content."""
    for inside in MENUS:
        file = folder / inside.replace("/", "-")
        try:
            run(["xorriso", "-osirrox", "on", "-indev", source, "-extract", f"/{inside}", file], {}, log)
        except BuildFailed:
            continue
        file.chmod(0o644)
        text = file.read_text("utf-8")
        file.write_text(
            isolinux(text, arguments) if inside.endswith("isolinux.cfg") else grub(text, arguments)
        )
        yield inside, file


def _replace_efi_menu(disc: Path, menu: Path, log: LogCallback) -> None:
    """Replace the menu in the EFI system partition of a finished disc, if it has one."""
    catalog = run(["xorriso", "-indev", disc, "-report_el_torito", "plain"], {}, log)
    for block in _EFI_IMAGE.findall(catalog):
        partition = f"{disc}@@{int(block) * _BLOCK_BYTES}"
        run(["mcopy", "-o", "-i", partition, menu, f"::/{EFI_MENU}"], {}, log)


def grub(text: str, arguments: str) -> str:
    """Reduce a GRUB menu to one entry, with kernel and initrd of the first; commands outside of entries are kept.

    Raises: IsoError.
    """
    kernel, initrd = _KERNEL.search(text), _INITRD.search(text)
    if not kernel or not initrd:
        raise IsoError("its GRUB menu has no entry with a kernel and an initrd")
    head = _GRUB_ENTRY.sub("", _GRUB_SUBMENU.sub("", text))
    head = re.sub(r"^set (default|timeout)=.*\n", "", head, flags=re.MULTILINE).strip()
    entry = f"menuentry 'Install the box' {{\n  {kernel[1]} {kernel[2]} {arguments}\n  {initrd[1]} {initrd[2]}\n}}\n"
    return f"{head}\nset default=0\nset timeout={TIMEOUT_S}\n{entry}"


def isolinux(text: str, arguments: str) -> str:
    """Reduce an ISOLINUX menu to one entry, with kernel and initrd of the first. Raises: IsoError."""
    kernel = re.search(r"^\s*kernel\s+(\S+)", text, re.MULTILINE | re.IGNORECASE)
    initrd = re.search(r"\binitrd=(\S+)", text)
    if not kernel or not initrd:
        raise IsoError("its ISOLINUX menu has no entry with a kernel and an initrd")
    serial = "".join(re.findall(r"^serial .*\n", text, re.MULTILINE | re.IGNORECASE))
    entry = f"label box\n  kernel {kernel[1]}\n  append initrd={initrd[1]} {arguments}\n"
    return f"{serial}default box\nprompt 0\ntimeout {TIMEOUT_S * 10}\n{entry}"
