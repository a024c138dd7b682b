"""`rap dc enrolment register` with flash records, serial numbers and wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imaging.flash.record import FlashedDisk, FlashRecord, save, summary
from rap.__main__ import main
from tests.support.datacenter.placed import placed_instrument

STAFF = """[staff.installer]
roles = ["installer"]
scope = ["country/DE"]
"""
KEY = "0123456789abcdef" * 4


def record(file: Path, box: str = "RAP-0007", key: str = KEY) -> str:
    """Write a flash record; return its path."""
    flash_record = FlashRecord(
        written_at="2026-03-01T08:00:00+00:00",
        image="box.raw",
        about={},
        manifest_sha256="a" * 64,
        signed_by_sha256="b" * 64,
        box=box,
        certificate_sha256="",
        key_sha256=key,
        disk=FlashedDisk(model="Stick", serial="S-1", bus="usb", bytes=512),
        seconds=1.0,
        parts=[],
        spans=[],
        sha256=summary([]),
    )
    save(flash_record, file)
    return str(file)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    file, store = placed_instrument(tmp_path, STAFF)
    store.close()
    return ["--config", str(file), "--as", "installer", "--site", "n"]


def test_flash_records_and_serial_numbers_are_registered(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with_key = record(tmp_path / "flash-rap-0007.json")
    without_key = record(tmp_path / "flash-rap-0008.json", "RAP-0008", "")
    assert main(["dc", "enrolment", "register", with_key, without_key, "RAP-0009", *options]) == 0
    assert capsys.readouterr().out == (
        "RAP-0007  key 0123456789abcdef  registered at n\n"
        "RAP-0008  any key  registered at n\n"
        "RAP-0009  any key  registered at n\n"
    )
    assert main(["dc", "enrolment", "list", *options[:4], "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["requests"]
    first = listed[0]
    assert (first["box"], first["key"], first["reason"], first["state"], first["decided_by"]) == (
        "RAP-0007",
        KEY,
        "flashed",
        "approved",
        "installer",
    )


def test_wrong_input_is_explained_and_registers_nothing(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    good = record(tmp_path / "good.json")
    blank = record(tmp_path / "blank.json", "")
    for arguments, text in (
        ([good, "rap-0009"], "is not a serial number; give one such as RAP-0001, or a flash record"),
        ([good, blank], "this disk has no identity; write it with `rap flash write --box`"),
        ([good, str(tmp_path / "none.json")], "cannot be read"),
        ([good, *options[:-1], "nowhere"], "there is no site 'nowhere'"),
    ):
        assert main(["dc", "enrolment", "register", *options, *arguments]) == 2
        assert text in capsys.readouterr().err
    assert main(["dc", "enrolment", "list", *options[:4]]) == 0
    assert capsys.readouterr().out == "no requests, certificates or denied boxes\n"
