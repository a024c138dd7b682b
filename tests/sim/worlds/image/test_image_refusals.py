"""Refusals of the image world: each names the correction and leaves nothing behind."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import msgspec
import pytest

from imaging import signing
from rap.__main__ import main
from rap.outcome import MACHINE_LACKS, WRONG_INPUT
from settings.problems import SettingsError
from settings.profile import load_profile, profile_names
from sim.lab.labfile import load_lab
from sim.worlds.image.machine import qemu
from sim.worlds.image.refusals import check_lab
from sim.worlds.kernel import running
from tests.support.imaging.flash.images import IMAGE_BYTES, raw_image, sign
from tests.support.sim.image_lab import LAB, NAME, in_image_world

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("_machine")]

SERIAL_MODEL = next(name for name in profile_names() if load_profile(name).speaks == "astm-serial")
RESET = "b0fe e664"
"""Machine code of `mov al, 0xfe; out 0x64, al`, by which the keyboard controller resets the processor."""
UARTS = [f"/dev/ttyS{number}" for number in range(4)]
EVENT = """\
[[event]]
at = "1s"
fault = "{fault}"
target = "{target}"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    file = tmp_path / "small.toml"
    file.write_text(LAB)
    return file


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return sign(raw_image(tmp_path / "box.raw"))


def refused(capsys: pytest.CaptureFixture[str], status: int, *arguments: object) -> str:
    """Run `rap lab run`, which must end with this exit status and leave nothing behind; return its message."""
    assert main(["lab", "run", *map(str, arguments)]) == status
    output = capsys.readouterr()
    assert not output.out
    assert not [name for name in running() if name.startswith(NAME)]
    return output.err


def test_the_image_world_needs_an_image(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = refused(capsys, WRONG_INPUT, lab, "--world", "image")
    assert "requires --image FILE" in output and "rap image build" in output


@pytest.mark.parametrize("verb", ["run", "up"])
def test_another_world_takes_no_image(
    verb: str, lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", verb, str(lab), "--image", str(image)]) == WRONG_INPUT
    assert "require --world image" in capsys.readouterr().err


def test_a_file_that_is_not_an_image_is_refused(
    lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = image.with_name("letter.raw")
    text.write_text("Dear customer")
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, text))
    assert "letter.manifest.json: cannot be read" in output and "rap image build --key" in output
    named = image.with_name("letter.txt")
    assert "must end with .raw or .raw.zst" in refused(capsys, WRONG_INPUT, *in_image_world(lab, named))


def test_an_image_that_was_cut_short_is_refused(
    lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(image, IMAGE_BYTES // 2)
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image))
    assert f"its map is for {IMAGE_BYTES}" in output


def test_an_image_signed_with_another_key_is_refused(
    lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = image.with_name("other.pub")
    signing.make_key(image.with_name("other.pem"), other)
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image, "--key", other))
    assert "signed with another key" in output


@pytest.mark.parametrize("size", [1, IMAGE_BYTES - 1])
def test_a_disk_smaller_than_the_image_is_refused(
    size: int, lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image, "--disk-bytes", size))
    assert f"the image needs {IMAGE_BYTES:,} bytes" in output


def test_an_interface_that_qemu_cannot_have_is_refused(lab: Path) -> None:
    loaded = load_lab(lab)
    odd = msgspec.structs.replace(loaded, board=msgspec.structs.replace(loaded.board, uplink="wan0"))
    with pytest.raises(SettingsError, match=r"wan0, which QEMU cannot emulate; .* enp1s0 to enp12s0"):
        check_lab(odd, "bios")
    check_lab(loaded, "bios")


@pytest.mark.parametrize(
    ("fault", "target", "why"),
    [
        ("address-changes", "uplink", "the site file of a flashed box"),
        ("address-changes", "datacenter", "the site file of a flashed box"),
        ("disk-rot", "disk", "needs emulated hardware"),
    ],
)
def test_a_fault_that_this_world_does_not_support_is_refused(
    fault: str, target: str, why: str, lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.write_text(LAB + EVENT.format(fault=fault, target=target))
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image))
    assert fault in output and why in output and "another world" in output


def test_a_step_of_the_clock_that_linux_does_not_support_is_refused(
    lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = EVENT.format(fault="clock-jump", target="clock") + 'by = "36500d"\ndirection = "backwards"\n'
    lab.write_text(LAB + step)
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image))
    assert "event.by" in output and "before 1971" in output and "smaller" in output


def test_the_error_without_qemu_names_the_package(
    lab: Path,
    image: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in map(Path, os.environ["PATH"].split(":")):
        for program in folder.glob("*"):
            link = programs / program.name
            if not program.name.startswith("qemu") and not link.exists():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(programs))
    output = refused(capsys, MACHINE_LACKS, *in_image_world(lab, image))
    assert "qemu-system-x86_64 is missing" in output and "make setup-image" in output


def test_the_error_without_uefi_firmware_names_the_package(
    lab: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "UEFI_FILES", ())
    output = refused(capsys, MACHINE_LACKS, *in_image_world(lab, image, "--firmware", "uefi"))
    assert "UEFI firmware" in output and "ovmf" in output


def test_an_image_for_another_architecture_is_refused(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = sign(raw_image(tmp_path / "arm.raw"), about={"architecture": "aarch64"})
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image))
    assert "is for aarch64 machines" in output and "emulates x86_64" in output


@pytest.mark.parametrize(
    ("devices", "why"),
    [
        (["/dev/ttyUSB0"], "ttyUSB0, which QEMU cannot emulate"),
        (UARTS, "4 serial ports, one of them the console"),
    ],
)
def test_a_serial_line_that_qemu_cannot_have_is_refused(lab: Path, devices: list[str], why: str) -> None:
    loaded = load_lab(lab)
    board = msgspec.structs.replace(loaded.board, serial_ports=dict(enumerate(devices, 1)))
    spec = msgspec.structs.replace(loaded.instruments[0], model=SERIAL_MODEL, speaks="astm-serial")
    several = tuple(msgspec.structs.replace(spec, port=port) for port in range(1, len(devices) + 1))
    with pytest.raises(SettingsError, match=why):
        check_lab(msgspec.structs.replace(loaded, board=board, instruments=several), "bios")
    one_port = msgspec.structs.replace(board, serial_ports={1: "/dev/ttyS0"})
    check_lab(msgspec.structs.replace(loaded, board=one_port, instruments=(spec,)), "bios")


@pytest.mark.slow("an emulated machine starts")
def test_a_box_that_does_not_start_is_reported_with_its_last_console_lines(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = refused(
        capsys, WRONG_INPUT, *in_image_world(lab, image_that_prints(tmp_path), "--start-seconds", 8)
    )
    assert "accepted no connection within 8 s" in output
    assert "    NO SYSTEM HERE" in output


@pytest.mark.slow("an emulated machine starts")
def test_a_silent_box_is_reported_with_the_kernel_argument_for_a_console(
    lab: Path, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image, "--start-seconds", 3))
    assert "its serial console printed nothing" in output and "console=ttyS0" in output


@pytest.mark.slow("an emulated machine restarts until the time limit of a start")
def test_a_guest_that_restarts_is_started_again(
    lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """QEMU ends when a guest restarts; a box restarts if a file system has become read-only, and after fsck."""
    image = image_that_prints(tmp_path, then=RESET)
    output = refused(capsys, WRONG_INPUT, *in_image_world(lab, image, "--start-seconds", 20))
    assert "accepted no connection within 20 s" in output and "QEMU ended" not in output
    assert output.count("    NO SYSTEM HERE") >= 2


def image_that_prints(folder: Path, then: str = "") -> Path:
    """Return an image whose boot sector writes a line to the first serial port (INT 14h, AH=1), executes the machine
    code `then` (hexadecimal), and halts.
    """
    line = b"NO SYSTEM HERE\r\n\0"
    code = bytes.fromhex("31c0 8ed8 be1e7c ac 84c0 7408 b401 31d2 cd14 ebf3" + then + "f4 ebfd")
    raw = raw_image(folder / "prints.raw")
    with raw.open("r+b") as file:
        file.write((code.ljust(0x1E, b"\x90") + line).ljust(440, b"\0"))
    assert struct.unpack("<H", raw.read_bytes()[510:512]) == (0xAA55,)
    return sign(raw)
