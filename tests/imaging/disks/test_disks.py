"""Which disks may be written, on the machines of `tests/fixtures/machines`: each file says what is expected."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from imaging.disks.machine import StationMachine
from imaging.disks.refusals import refusals
from tests.support.imaging.layouts import FILES, load


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_disk_is_refused_if_anything_on_it_is_used_and_only_then(file: Path) -> None:
    layout = load(file)
    assert [name for name, reasons in layout.judged().items() if not reasons] == layout.may_be_written
    for name, words in layout.refused.items():
        reasons = refusals(layout.machine, name, layout.image_bytes)
        assert words in "; ".join(reasons)


def test_there_are_machines_enough() -> None:
    assert len(FILES) >= 40


def test_a_machine_survives_being_recorded() -> None:
    for file in FILES:
        machine = load(file).machine
        assert msgspec.json.decode(msgspec.json.encode(machine), type=StationMachine) == machine
