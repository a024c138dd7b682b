"""An installer's ISO: of the same structure as RHEL's, made small from Debian's boot loaders, and what becomes of its
menus."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imaging.iso import IsoError, grub, isolinux, make_iso
from rap.__main__ import main

ISOLINUX = Path("/usr/lib/ISOLINUX")
SYSLINUX = Path("/usr/lib/syslinux/modules/bios")
GRUB_MENU = """\
set default="1"
function load_video {
  insmod all_video
}
load_video
set timeout=60
search --no-floppy --set=root -l 'Standin 9 x86_64'
menuentry 'Install' --class red {
\tlinuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Standin\\x209\\x20x86_64 quiet
\tinitrdefi /images/pxeboot/initrd.img
}
submenu 'Troubleshooting -->' {
\tmenuentry 'Rescue' {
\t\tlinuxefi /images/pxeboot/vmlinuz inst.rescue quiet
\t\tinitrdefi /images/pxeboot/initrd.img
\t}
}
"""
ISOLINUX_MENU = """\
serial 0 115200
default vesamenu.c32
timeout 600
label linux
  kernel vmlinuz
  append initrd=initrd.img inst.stage2=hd:LABEL=Standin\\x209\\x20x86_64 quiet
label rescue
  kernel vmlinuz
  append initrd=initrd.img inst.rescue quiet
"""
ARGUMENTS = (
    "inst.stage2=hd:LABEL=Standin\\x209\\x20x86_64 inst.ks=hd:LABEL=Standin\\x209\\x20x86_64:/box.ks fips=1"
)


def _iso(folder: Path) -> Path:
    """A boot ISO with RHEL's structure: ISOLINUX for BIOS, an EFI image for UEFI, .discinfo, .treeinfo."""
    for path in ("isolinux", "images/pxeboot", "EFI/BOOT"):
        (folder / "disc" / path).mkdir(parents=True)
    disc = folder / "disc"
    (disc / ".discinfo").write_text("1\nStandin 9\nx86_64\n")
    (disc / ".treeinfo").write_text("[general]\nname = Standin 9\n")
    for name in (
        "images/pxeboot/vmlinuz",
        "images/pxeboot/initrd.img",
        "isolinux/vmlinuz",
        "isolinux/initrd.img",
    ):
        (disc / name).write_text("nothing that runs\n")
    (disc / "isolinux/isolinux.cfg").write_text(ISOLINUX_MENU)
    (disc / "EFI/BOOT/grub.cfg").write_text(GRUB_MENU)
    shutil.copy(ISOLINUX / "isolinux.bin", disc / "isolinux/isolinux.bin")
    shutil.copy(SYSLINUX / "ldlinux.c32", disc / "isolinux/ldlinux.c32")
    efi = disc / "images/efiboot.img"
    with efi.open("wb") as file:
        file.truncate(4 * 1024 * 1024)
    for command in (
        ["mkfs.vfat", efi],
        ["mmd", "-i", efi, "::/EFI", "::/EFI/BOOT"],
        ["mcopy", "-i", efi, disc / "EFI/BOOT/grub.cfg", "::/EFI/BOOT/"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    iso = folder / "boot.iso"
    words = [
        "-as",
        "mkisofs",
        "-V",
        "Standin 9 x86_64",
        "-R",
        "-J",
        "-isohybrid-mbr",
        ISOLINUX / "isohdpfx.bin",
    ]
    words += [
        "-b",
        "isolinux/isolinux.bin",
        "-c",
        "isolinux/boot.cat",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
    ]
    words += [
        "-eltorito-alt-boot",
        "-e",
        "images/efiboot.img",
        "-no-emul-boot",
        "-isohybrid-gpt-basdat",
        "-o",
        iso,
        disc,
    ]
    subprocess.run(["xorriso", *words], check=True, capture_output=True)
    return iso


def _extract(iso: Path, inside: str, folder: Path) -> Path:
    file = folder / Path(inside).name
    command = ["xorriso", "-osirrox", "on", "-indev", iso, "-extract", inside, file]
    subprocess.run(command, check=True, capture_output=True)
    return file


def test_menus_have_one_entry() -> None:
    assert grub(GRUB_MENU, ARGUMENTS).count("menuentry") == 1
    assert f"linuxefi /images/pxeboot/vmlinuz {ARGUMENTS}\n" in grub(GRUB_MENU, ARGUMENTS)
    assert "search --no-floppy --set=root -l 'Standin 9 x86_64'" in grub(GRUB_MENU, ARGUMENTS)
    assert "rescue" not in (menu := isolinux(ISOLINUX_MENU, ARGUMENTS))
    assert f"  kernel vmlinuz\n  append initrd=initrd.img {ARGUMENTS}\n" in menu


@pytest.mark.parametrize("menu", ["", "menuentry 'x' {\n  chainloader +1\n}\n"])
def test_a_menu_without_a_kernel_is_refused(menu: str) -> None:
    with pytest.raises(IsoError, match="no entry with a kernel"):
        grub(menu, ARGUMENTS)


@pytest.mark.skipif(
    not ISOLINUX.exists() or not shutil.which("xorriso"), reason="needs isolinux, xorriso: make setup-image"
)
def test_disc_keeps_its_ways_of_starting(tmp_path: Path) -> None:
    iso = _iso(tmp_path)
    (tmp_path / "a.ks").write_text("text\n")
    (repository := tmp_path / "repository").mkdir()
    (repository / "rap-box.rpm").write_text("package\n")
    made = tmp_path / "made.iso"
    make_iso(iso, tmp_path / "a.ks", [repository], made, lambda _line: None)

    assert _extract(made, "/box.ks", tmp_path).read_text() == "text\n"
    assert _extract(made, "/rap-box/rap-box.rpm", tmp_path).read_text() == "package\n"
    assert ARGUMENTS in _extract(made, "/isolinux/isolinux.cfg", tmp_path).read_text()
    efi = _extract(made, "/images/efiboot.img", tmp_path)
    shown = subprocess.run(
        ["mtype", "-i", efi, "::/EFI/BOOT/grub.cfg"], check=True, capture_output=True, text=True
    )
    assert ARGUMENTS in shown.stdout
    report = subprocess.run(
        ["xorriso", "-indev", made, "-report_el_torito", "plain"], check=True, capture_output=True, text=True
    )
    assert " BIOS " in report.stdout and " UEFI " in report.stdout
    assert made.read_bytes()[510:512] == b"\x55\xaa"


def test_a_file_where_the_folder_belongs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("box.ks", "out"):
        (tmp_path / name).write_text("text\n")
    words = ["image", "build", tmp_path / "box.ks", "--repo", tmp_path, "--iso", tmp_path / "a.iso"]
    assert main([*map(str, words), "-o", str(tmp_path / "out")]) == 2
    assert f"--output {tmp_path / 'out'}: cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("xorriso"), reason="needs xorriso: make setup-image")
def test_what_is_no_iso_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "boot.iso").write_bytes(os.urandom(65536))
    with pytest.raises(IsoError, match=r"boot ISO|boot menus"):
        make_iso(tmp_path / "boot.iso", tmp_path / "a.ks", [], tmp_path / "made.iso", lambda _line: None)
    assert [file.name for file in tmp_path.iterdir()] == ["boot.iso"]
