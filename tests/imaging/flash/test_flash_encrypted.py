"""`rap flash` with a site that needs the box's TPM: partitions are marked for encryption, or the image is refused."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from imaging.signing import TPM_KEYS, TPM_KEYS_KEY
from rap.outcome import OK, WrongInput
from settings.encrypted import AT_FIRST_START, MANIFEST_KEY
from tests.support.imaging.flash.gpt_tables import with_checksums
from tests.support.imaging.flash.images import IMAGE_BYTES, MIB, SITE, loop_device, rap, raw_image, sign

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")

DISK_BYTES = IMAGE_BYTES + 4 * MIB
NAMES = {"root-a": "root-b", "var": "rap"}
ENCRYPTS = {MANIFEST_KEY: AT_FIRST_START}
LUKS = f"{SITE}\n[luks]\n"


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    with loop_device(tmp_path / "disk.img", DISK_BYTES) as device:
        yield device


def image(about: Mapping[str, str] = ENCRYPTS, names: Mapping[str, str] = NAMES) -> Path:
    """Return a signed image; `names` has new names of partitions by their old ones."""
    raw = raw_image(Path("box.raw"))
    with raw.open("r+b") as file:
        front = file.read(MIB)
        for old, new in names.items():
            front = front.replace(old.encode("utf-16-le"), new.encode("utf-16-le").ljust(2 * len(old), b"\0"))
        file.seek(0)
        file.write(with_checksums(front))
    return sign(raw, about=about)


def write(raw: Path, device: str, site: str, *more: object) -> int:
    Path("site.toml").write_text(site)
    options = ("--key", "key.pub", "--serial", Path(device).name, "--box", "RAP-0001", "--site", "site.toml")
    return rap("flash", "write", raw, device, *options, *more)


def names_on(device: str) -> list[str]:
    """Return the names of the partitions according to sfdisk."""
    output = subprocess.run(["sfdisk", "--json", device], check=True, capture_output=True, text=True)
    return [part.get("name", "") for part in json.loads(output.stdout)["partitiontable"]["partitions"]]


def test_the_partitions_to_encrypt_are_marked_by_their_names(
    disk: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(image(), disk, LUKS, "--record", "it.json") == OK
    assert names_on(disk) == ["esp", "rap-identity", "root-b", "luks-rap"]
    assert (
        "RAP-0001 will encrypt rap at its first start, with the key in its TPM 2.0" in capsys.readouterr().err
    )
    assert rap("flash", "verify", disk, "--record", "it.json") == OK


def test_without_a_luks_table_no_partition_is_marked(disk: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert write(image(), disk, SITE) == OK
    assert names_on(disk) == ["esp", "rap-identity", "root-b", "rap"]
    assert "encrypt" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("about", "names"),
    [
        ({"release": "test"}, NAMES),
        ({MANIFEST_KEY: "by magic"}, NAMES),
        (ENCRYPTS, {"root-a": "root-b"}),
        (ENCRYPTS, {"var": "rap"}),
    ],
)
def test_an_image_that_cannot_encrypt_is_refused(
    disk: str, about: Mapping[str, str], names: Mapping[str, str]
) -> None:
    raw = image(about, names)
    before = Path(disk).read_bytes()
    with pytest.raises(
        WrongInput,
        match=r"site\.toml: luks: this image cannot encrypt.*with rap-box, clevis.*partitions rap and root-b",
    ):
        write(raw, disk, LUKS)
    assert Path(disk).read_bytes() == before


def test_a_site_without_a_tpm_is_refused(disk: str) -> None:
    raw = image()
    before = Path(disk).read_bytes()
    with pytest.raises(
        WrongInput, match=r"site\.toml: luks\.tpm: .*nobody can type a passphrase.*tpm = true"
    ):
        write(raw, disk, f"{LUKS}tpm = false\n")
    assert Path(disk).read_bytes() == before


@pytest.mark.parametrize(
    ("about", "keys", "is_refused"),
    [
        ({}, "tpm", True),
        ({TPM_KEYS_KEY: TPM_KEYS}, "tpm", False),
        ({}, "tpm-or-file", False),
        ({}, "file", False),
    ],
)
def test_an_image_that_cannot_make_the_keys_that_the_site_requires_is_refused(
    disk: str, about: Mapping[str, str], keys: str, is_refused: bool
) -> None:
    raw = image({"release": "test", **about})
    site = f'{SITE}\n[enrolment]\nkeys = "{keys}"\n'
    before = Path(disk).read_bytes()
    if not is_refused:
        assert write(raw, disk, site) == OK
        return
    with pytest.raises(WrongInput, match=r"enrolment\.keys: this image .*tpm2-openssl.*tpm-or-file"):
        write(raw, disk, site)
    assert Path(disk).read_bytes() == before
