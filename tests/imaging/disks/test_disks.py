"""The disks that may be written on each machine of `tests/fixtures/machines`, whose file contains the expectation."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from imaging.disks.machine import StationMachine
from imaging.disks.refusals import refusals
from tests.support.imaging.flash.layouts import FILES, load


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_disk_is_refused_exactly_if_something_on_it_is_in_use(file: Path) -> None:
    layout = load(file)
    assert [
        name for name, reasons in layout.refusals_by_disk().items() if not reasons
    ] == layout.may_be_written
    for name, reason in layout.refused.items():
        assert reason in "; ".join(refusals(layout.machine, name, layout.image_bytes))


def test_the_recorded_machines_cover_enough_cases() -> None:
    assert len(FILES) >= 40


def test_a_recorded_machine_is_unchanged_after_encoding_and_decoding() -> None:
    for file in FILES:
        machine = load(file).machine
        assert msgspec.json.decode(msgspec.json.encode(machine), type=StationMachine) == machine
