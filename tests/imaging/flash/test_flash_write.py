"""`rap flash` on loop devices: complete flashes, refusals that leave the disk unchanged, and later commands."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from imaging.kickstart.site import for_box, load_site
from rap.outcome import FAILED, OK, CommandError, MachineLacks, WrongInput
from settings.identity_archive import unpack
from tests.support.imaging.flash.images import (
    IMAGE_BYTES,
    MIB,
    SITE,
    gpt,
    guids,
    loop_device,
    rap,
    raw_image,
    sign,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

DISK_BYTES = IMAGE_BYTES + 4 * MIB


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("site.toml").write_text(SITE)
    return tmp_path


@pytest.fixture(params=["raw", "zstd"])
def image(request: pytest.FixtureRequest, desk: Path) -> Path:
    return sign(raw_image(desk / "box.raw"), compressed=request.param == "zstd")


@pytest.fixture
def raw(desk: Path) -> Path:
    return sign(raw_image(desk / "box.raw"))


@pytest.fixture
def disk(desk: Path) -> Iterator[str]:
    with loop_device(desk / "disk.img", DISK_BYTES) as device:
        os.pwrite(fd := os.open(device, os.O_RDWR), b"old" * 1024, 6 * MIB)
        os.close(fd)
        yield device


def write(image: Path, device: str, *more: object) -> int:
    return rap("flash", "write", image, device, "--key", "key.pub", "--serial", Path(device).name, *more)


def content(device: str) -> bytes:
    return Path(device).read_bytes()


def test_a_disk_gets_the_image_and_a_partition_table_of_its_size(image: Path, disk: str) -> None:
    assert write(image, disk) == OK
    written, wanted = content(disk), Path("box.raw").read_bytes()
    front, back = gpt(DISK_BYTES, guids(content(disk)))
    assert written[440 : len(front)] == front[440:]
    assert written[:440] == wanted[:440]
    assert written[-len(back) :] == back
    assert written[MIB : 6 * MIB] == wanted[MIB : 6 * MIB]
    assert not any(written[6 * MIB : 7 * MIB])  # the old content at the beginning of a partition is erased


def test_a_disk_is_compared_with_its_record(raw: Path, disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(raw, disk, "--record", "it.json")
    assert rap("flash", "verify", disk, "--record", "it.json") == OK
    with Path(disk).open("r+b") as device:
        device.seek(3 * MIB + 5000)
        device.write(b"changed")
    capsys.readouterr()
    assert rap("flash", "verify", disk, "--record", "it.json", "--json") == FAILED
    assert json.loads(capsys.readouterr().out) == {"verdict": "fail", "differs": ["root-a"]}
    assert rap("flash", "verify", disk, "--record", "it.json", "--only", "esp") == OK


def test_a_flash_writes_a_record_and_a_page(raw: Path, disk: str) -> None:
    write(raw, disk, "--box", "RAP-0001", "--site", "site.toml")
    record = json.loads(Path("flash-rap-0001.json").read_text())
    assert (record["box"], record["image"], record["disk"]["bytes"]) == ("RAP-0001", "box.raw", DISK_BYTES)
    page = Path("flash-rap-0001.pdf").read_bytes()
    assert page.startswith(b"%PDF")
    assert page.count(b"/Type /Page\n") == 1
    assert b"PRIVATE KEY" not in Path("flash-rap-0001.json").read_bytes()


def test_the_key_is_created_on_the_disk_and_the_certificate_is_added_later(raw: Path, disk: str) -> None:
    write(raw, disk, "--box", "RAP-0001", "--site", "site.toml", "--csr", "it.csr", "--record", "it.json")
    request = x509.load_pem_x509_csr(Path("it.csr").read_bytes())
    assert request.is_signature_valid
    rap("pki", "init", "pki")
    assert rap("pki", "issue", "pki", "RAP-0001", "--for", "box", "--csr", "it.csr") == OK
    command = ("flash", "identity", disk, "--certificate", "pki/rap-0001.crt")
    with pytest.raises(
        WrongInput, match="needs the CAs that it trusts: give --vendor-ca and --datacenter-root"
    ):
        rap(*command)
    with pytest.raises(WrongInput, match=r"it\.csr: is not a certificate in PEM"):
        rap(*command, "--vendor-ca", "it.csr", "--datacenter-root", "pki/datacenter-root.crt")
    authorities = ("--vendor-ca", "pki/vendor-ca.crt", "--datacenter-root", "pki/datacenter-root.crt")
    assert rap(*command, *authorities) == OK
    files = unpack(content(disk)[2 * MIB : 3 * MIB])
    assert files["serial"] == b"RAP-0001\n"
    assert files["site.toml"].decode() == for_box(load_site(Path("site.toml")))
    assert b"labadmin" not in files["site.toml"], "the installer's settings must not be stored"
    assert x509.load_pem_x509_certificate(files["box.crt"]).public_key() == request.public_key()
    assert rap("flash", "identity", disk, "--pki", "pki") == OK
    again = unpack(content(disk)[2 * MIB : 3 * MIB])
    assert {name: again[name] == files[name] for name in files} == {
        **dict.fromkeys(files, True),
        "box.crt": False,
    }
    assert rap(*command) == OK, "the trusted CAs are on the disk already"
    assert unpack(content(disk)[2 * MIB : 3 * MIB]) == files
    assert rap("flash", "verify", disk, "--record", "it.json") == OK


def test_changes_to_an_identity_are_printed(raw: Path, disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(raw, disk, "--box", "RAP-0001", "--site", "site.toml")
    rap("pki", "init", "pki")
    capsys.readouterr()
    assert rap("flash", "identity", disk, "--csr", "it.csr", "--pki", "pki") == OK
    assert capsys.readouterr().out.splitlines() == [
        "it.csr: the certificate request of RAP-0001",
        f"{disk}: installed the certificate of RAP-0001, issued from pki",
    ]
    with pytest.raises(WrongInput):
        rap("flash", "identity", disk, "--certificate", "it.csr")
    assert capsys.readouterr().out == ""


def test_a_certificate_of_another_box_is_refused(raw: Path, disk: str) -> None:
    write(raw, disk, "--box", "RAP-0001", "--site", "site.toml")
    rap("pki", "init", "pki")
    rap("pki", "issue", "pki", "RAP-0001", "--for", "box")
    before = content(disk)
    with pytest.raises(WrongInput, match="is not for the key on this disk"):
        rap("flash", "identity", disk, "--certificate", "pki/rap-0001.crt")
    assert content(disk) == before


def test_the_command_asks_for_a_missing_serial(raw: Path, disk: str) -> None:
    before = content(disk)
    with pytest.raises(WrongInput, match="is not the name"):
        rap("flash", "write", raw, disk, "--key", "key.pub", "--serial", "sda")
    with pytest.raises(WrongInput, match="standard input is not a terminal"):
        rap("flash", "write", raw, disk, "--key", "key.pub")
    assert content(disk) == before


def change(file: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["box.bmap", "box.manifest.json", "box.manifest.json.sig", "key.pub"])
def test_an_unsigned_image_leaves_the_disk_unchanged(raw: Path, disk: str, name: str) -> None:
    change(raw.with_name(name))
    before = content(disk)
    with pytest.raises(WrongInput, match=r"(box\.(bmap|manifest\.json)|key\.pub): .*Nothing was written"):
        write(raw, disk)
    assert content(disk) == before


@pytest.mark.parametrize("image", ["zstd"], indirect=True)
def test_a_truncated_compressed_image_leaves_the_disk_unchanged(image: Path, disk: str) -> None:
    os.truncate(image, image.stat().st_size - 100)
    before = content(disk)
    with pytest.raises(WrongInput, match="no table of frames"):
        write(image, disk)
    assert content(disk) == before


def test_a_changed_image_never_boots(raw: Path, disk: str) -> None:
    with raw.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(b"changed")
    with pytest.raises(WrongInput, match=r"was changed or is damaged.*\n.*is not bootable now.*--resume"):
        write(raw, disk)
    left = content(disk)
    assert not any(left[:512])
    assert b"EFI PART" not in left
    assert b"changed" not in left
    sign(raw_image(raw))
    assert write(raw, disk, "--resume") == OK


def test_a_disk_that_is_too_small_is_refused(raw: Path, desk: Path) -> None:
    with (
        loop_device(desk / "small.img", IMAGE_BYTES - MIB) as device,
        pytest.raises(WrongInput, match="too small"),
    ):
        write(raw, device)


def test_a_read_only_disk_is_refused(raw: Path, disk: str) -> None:
    subprocess.run(["blockdev", "--setro", disk], check=True)
    try:
        with pytest.raises(WrongInput, match="read-only"):
            write(raw, disk)
    finally:  # a loop device keeps the setting after it is detached
        subprocess.run(["blockdev", "--setrw", disk], check=True)


def test_a_mounted_disk_is_refused(raw: Path, disk: str, desk: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", disk], check=True)
    (desk / "mnt").mkdir()
    subprocess.run(["mount", "-o", "ro", disk, desk / "mnt"], check=True)
    try:
        before = content(disk)
        with pytest.raises(WrongInput, match="is mounted at"):
            write(raw, disk)
        assert content(disk) == before
    finally:
        subprocess.run(["umount", desk / "mnt"], check=True)


def test_swap_space_is_refused(raw: Path, disk: str) -> None:
    subprocess.run(["mkswap", disk], check=True, capture_output=True)
    with pytest.raises(WrongInput, match=r"is swap space.*wipefs"):
        write(raw, disk)


def test_the_disk_of_the_running_system_is_refused(raw: Path) -> None:
    number = Path("/").stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    with pytest.raises(WrongInput, match="may not be written"):
        rap("flash", "write", raw, f"/dev/{name}", "--key", "key.pub", "--serial", "x")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/nonesuch", "box.raw"])
def test_a_path_that_is_no_disk_is_refused(raw: Path, device: str) -> None:
    before = raw.read_bytes()
    with pytest.raises(WrongInput):
        write(raw, device)
    assert raw.read_bytes() == before


def test_a_full_disk_behind_the_device_is_reported_and_the_flash_can_be_resumed(
    raw: Path, desk: Path
) -> None:
    small = desk / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], check=True)
    try:
        with loop_device(small / "disk.img", DISK_BYTES) as device:
            with pytest.raises(MachineLacks, match=r"(?s)cannot be .*is not bootable now"):
                write(raw, device)
            assert not any(content(device)[:512])
            subprocess.run(["mount", "-o", "remount,size=32m", small], check=True)
            assert write(raw, device, "--resume") == OK
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_records_on_the_station_are_not_overwritten(raw: Path, disk: str) -> None:
    Path("it.pdf").write_text("mine")
    before = content(disk)
    with pytest.raises(CommandError, match=r"it\.pdf exists"):
        write(raw, disk, "--record", "it.json")
    assert content(disk) == before


def test_the_list_shows_the_contents_of_each_disk(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    subprocess.run(["mkswap", disk], check=True, capture_output=True)
    assert rap("flash", "list", "--json") == OK
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    entry = listed[Path(disk).name]
    assert (entry["bytes"], entry["holds"], entry["may_be_written"]) == (DISK_BYTES, "swap", False)
    assert rap("flash", "list") == OK
    assert disk in capsys.readouterr().out
