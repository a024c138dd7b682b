"""Installer ISOs and their menus, made from a small boot ISO with RHEL's structure and Debian's boot loaders."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from imaging.build.iso import IsoError, grub, isolinux, make_iso
from imaging.signing import describe, load_public_key, make_key, read_manifest
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
search --no-floppy --set=root -l 'Mock 9 x86_64'
menuentry 'Install' --class red {
\tlinuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Mock\\x209\\x20x86_64 quiet
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
  append initrd=initrd.img inst.stage2=hd:LABEL=Mock\\x209\\x20x86_64 quiet
label rescue
  kernel vmlinuz
  append initrd=initrd.img inst.rescue quiet
"""
SECONDS_MAX = 120
"""Only prevents hanging; generous enough for a busy machine."""
needs_isolinux = pytest.mark.skipif(
    not ISOLINUX.exists() or not shutil.which("xorriso"), reason="needs isolinux, xorriso: make setup-image"
)
ARGUMENTS = "inst.stage2=hd:LABEL=Mock\\x209\\x20x86_64 inst.ks=hd:LABEL=Mock\\x209\\x20x86_64:/box.ks fips=1"


AS_A_FILE = (
    f"-isohybrid-mbr {ISOLINUX}/isohdpfx.bin -e images/efiboot.img -no-emul-boot -isohybrid-gpt-basdat"
)
APPENDED = (
    "-partition_offset 16 -append_partition 2 0xef {efi} -appended_part_as_gpt "
    "-e --interval:appended_partition_2:all:: -no-emul-boot"
)


def _iso(folder: Path, efi_partition: str = AS_A_FILE, *, packages: bool = False) -> Path:
    """Make a boot ISO with RHEL's structure: ISOLINUX for BIOS, an EFI image for UEFI, .discinfo and .treeinfo.

    With `packages`, it is a DVD ISO, which contains a repository.
    """
    for path in ("isolinux", "images/pxeboot", "EFI/BOOT", "BaseOS/repodata"):
        (folder / "disc" / path).mkdir(parents=True)
    if packages:
        (folder / "disc/BaseOS/repodata/repomd.xml").write_text("<repomd/>\n")
    disc = folder / "disc"
    (disc / ".discinfo").write_text("1\nMock 9\nx86_64\n")
    (disc / ".treeinfo").write_text("[general]\nname = Mock 9\n")
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
    commands: list[list[str | Path]] = [
        ["mkfs.vfat", efi],
        ["mmd", "-i", efi, "::/EFI", "::/EFI/BOOT"],
        ["mcopy", "-i", efi, disc / "EFI/BOOT/grub.cfg", "::/EFI/BOOT/"],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    iso = folder / "boot.iso"
    arguments = ["-as", "mkisofs", "-V", "Mock 9 x86_64", "-R", "-J", "-b", "isolinux/isolinux.bin"]
    arguments += ["-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
    if efi_partition == APPENDED:
        efi = efi.rename(folder / "efiboot.img")
    arguments += ["-eltorito-alt-boot", *efi_partition.format(efi=efi).split(), "-o", str(iso), str(disc)]
    subprocess.run(["xorriso", *arguments], check=True, capture_output=True)
    return iso


def _extract(iso: Path, inside: str, folder: Path) -> Path:
    file = folder / Path(inside).name
    command = ["xorriso", "-osirrox", "on", "-indev", str(iso), "-extract", inside, str(file)]
    subprocess.run(command, check=True, capture_output=True)
    return file


def test_boot_menus_have_one_entry() -> None:
    assert grub(GRUB_MENU, ARGUMENTS).count("menuentry") == 1
    assert f"linuxefi /images/pxeboot/vmlinuz {ARGUMENTS}\n" in grub(GRUB_MENU, ARGUMENTS)
    assert "search --no-floppy --set=root -l 'Mock 9 x86_64'" in grub(GRUB_MENU, ARGUMENTS)
    assert "rescue" not in (menu := isolinux(ISOLINUX_MENU, ARGUMENTS))
    assert f"  kernel vmlinuz\n  append initrd=initrd.img {ARGUMENTS}\n" in menu


@pytest.mark.parametrize("menu", ["", "menuentry 'x' {\n  chainloader +1\n}\n"])
def test_a_menu_without_a_kernel_is_refused(menu: str) -> None:
    with pytest.raises(IsoError, match="no entry with a kernel"):
        grub(menu, ARGUMENTS)


def _make_iso(folder: Path, source: Path) -> Path:
    """Make an installer ISO with the kickstart "a.ks" and a repository from a boot ISO."""
    (folder / "a.ks").write_text("text\n")
    (repository := folder / "repository").mkdir()
    (repository / "rap-box.rpm").write_text("package\n")
    make_iso(source, folder / "a.ks", [repository], folder / "made.iso", lambda _line: None)
    return folder / "made.iso"


@needs_isolinux
@pytest.mark.parametrize("efi_partition", [AS_A_FILE, APPENDED], ids=["file", "appended"])
def test_the_iso_keeps_its_boot_methods(tmp_path: Path, efi_partition: str) -> None:
    iso = _make_iso(tmp_path, _iso(tmp_path, efi_partition))
    assert _extract(iso, "/box.ks", tmp_path).read_text() == "text\n"
    assert _extract(iso, "/rap-box/rap-box.rpm", tmp_path).read_text() == "package\n"
    assert ARGUMENTS in _extract(iso, "/isolinux/isolinux.cfg", tmp_path).read_text()
    command = f"xorriso -osirrox on -indev {iso} -extract_boot_images {tmp_path}/started"
    subprocess.run(command.split(), check=True, capture_output=True)
    efi = next((tmp_path / "started").glob("eltorito_img*_uefi.img"))
    shown = subprocess.run(
        ["mtype", "-i", efi, "::/EFI/BOOT/grub.cfg"], check=True, capture_output=True, text=True
    )
    assert ARGUMENTS in shown.stdout
    report = subprocess.run(
        ["xorriso", "-indev", iso, "-report_el_torito", "plain"], check=True, capture_output=True, text=True
    )
    assert " BIOS " in report.stdout and " UEFI " in report.stdout
    assert iso.read_bytes()[510:512] == b"\x55\xaa"


@needs_isolinux
@pytest.mark.parametrize(
    ("kickstart", "packages", "message"),
    [
        ("text\ncdrom\n", False, r"a\.ks:2: cdrom: .*boot\.iso has no packages .* give a DVD ISO"),
        ("text\ncdrom\n", True, ""),
        ("url --url=https://mirror.example.com/\n", False, ""),
        ("cdrom\nignoredisk --only-use=sda\n", True, r"a\.ks:2: ignoredisk --only-use hides a USB stick"),
        ("cdrom\nignoredisk --drives=sdb\n", True, ""),
    ],
)
def test_cdrom_needs_packages_on_a_medium_that_is_not_hidden(
    tmp_path: Path, kickstart: str, packages: bool, message: str
) -> None:
    (tmp_path / "a.ks").write_text(kickstart)
    source = _iso(tmp_path, packages=packages)
    before = sorted(tmp_path.iterdir())
    if not message:
        make_iso(source, tmp_path / "a.ks", [], tmp_path / "made.iso", lambda _line: None)
        assert (tmp_path / "made.iso").exists()
        return
    with pytest.raises(IsoError, match=message):
        make_iso(source, tmp_path / "a.ks", [], tmp_path / "made.iso", lambda _line: None)
    assert sorted(tmp_path.iterdir()) == before


def _output_until(options: list[str], wanted: str) -> str:
    """Start QEMU with these options; return its serial output up to and including `wanted`.

    If `wanted` does not appear, the machine is killed after the time limit, and its complete output is returned.
    """
    command = ["qemu-system-x86_64", "-machine", "q35,accel=tcg", "-display", "none", "-monitor", "none"]
    output = b""
    with subprocess.Popen(
        [*command, "-snapshot", "-serial", "stdio", *options], stdout=subprocess.PIPE
    ) as machine:
        guard = threading.Timer(SECONDS_MAX, machine.kill)
        guard.start()
        assert machine.stdout is not None
        while wanted.encode() not in output and (byte := machine.stdout.read(1)):
            output += byte
        guard.cancel()
        machine.kill()
    return output.decode("utf-8", "replace")


@needs_isolinux
@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="needs QEMU: make setup-image")
@pytest.mark.parametrize("device", ["ide-cd", "usb-storage"])
def test_bios_boots_the_box_entry(tmp_path: Path, device: str) -> None:
    """The original menu needs a module that its disc does not contain; only the new menu starts a kernel."""
    iso = _make_iso(tmp_path, _iso(tmp_path))
    options = f"-device qemu-xhci -drive if=none,id=disc,format=raw,file={iso} -device {device},drive=disc"
    assert "Loading vmlinuz" in _output_until(options.split(), "Loading vmlinuz")


def _arguments(folder: Path, *more: object) -> list[str]:
    arguments = ["image", "build", folder / "a.ks", "--repo", folder, "--iso", folder / "boot.iso"]
    return [*map(str, arguments), "-o", str(folder / "out"), *map(str, more)]


@needs_isolinux
def test_a_signed_iso_describes_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _iso(tmp_path)
    (tmp_path / "a.ks").write_text("text\n")
    make_key(tmp_path / "key.pem", tmp_path / "key.pub")
    assert main([*_arguments(tmp_path, "--key", tmp_path / "key.pem"), "--json"]) == 0
    iso = tmp_path / "out/a.iso"
    manifest = iso.with_name("a.iso.manifest.json")
    output = json.loads(capsys.readouterr().out)
    assert output == {"image": str(iso), "files": [str(iso), str(manifest), f"{manifest}.sig"]}
    read, _ = read_manifest(manifest, load_public_key(tmp_path / "key.pub"))
    assert read.file("a.iso") == describe(iso)
    assert read.about["source_sha256"] == describe(tmp_path / "boot.iso").sha256


def test_a_wrong_key_is_reported_before_an_iso_is_made(tmp_path: Path) -> None:
    for name in ("a.ks", "boot.iso", "key.pem"):
        (tmp_path / name).write_text("text\n")
    assert main(_arguments(tmp_path, "--key", tmp_path / "key.pem")) == 2
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_output_folder_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("box.ks", "out"):
        (tmp_path / name).write_text("text\n")
    arguments = ["image", "build", tmp_path / "box.ks", "--repo", tmp_path, "--iso", tmp_path / "a.iso"]
    assert main([*map(str, arguments), "-o", str(tmp_path / "out")]) == 2
    assert f"--output {tmp_path / 'out'}: cannot be written" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("xorriso"), reason="needs xorriso: make setup-image")
def test_a_file_that_is_no_iso_is_refused_and_leaves_no_output(tmp_path: Path) -> None:
    (tmp_path / "boot.iso").write_bytes(os.urandom(65536))
    with pytest.raises(IsoError, match=r"boot ISO|boot menus"):
        make_iso(tmp_path / "boot.iso", tmp_path / "a.ks", [], tmp_path / "made.iso", lambda _line: None)
    assert [file.name for file in tmp_path.iterdir()] == ["boot.iso"]
