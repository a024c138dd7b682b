"""The keys of lab files about an instrument's standard: accepted values, and the message for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings.problems import SettingsError
from sim.lab.labfile import Lab, parse_lab

LAB = """\
[lab]
name = "standards"
duration = "1h"
[box]
board = "rap-4"
[uplink]
rate = "1Mbit"
"""
LINE = LAB.count("\n") + 1


def lab(*keys: str) -> Lab:
    return parse_lab(LAB + "[[instrument]]\nport = 1\n" + "\n".join(keys), Path("standards.toml"))


def test_a_model_speaks_the_standard_of_its_profile() -> None:
    assert lab('model = "modular-analyzer"').instruments[0].speaks == "hl7"
    assert lab('model = "chemistry-analyzer"').instruments[0].speaks == "agent"


def test_a_lab_with_dialects_is_unchanged_after_it_was_written_and_read() -> None:
    for dialect in ('"random"', '["images", "pipelined"]'):
        read = lab('model = "modular-analyzer"', 'speaks = "hl7"', f"dialect = {dialect}")
        assert parse_lab(read.toml(), Path("standards.toml")).instruments == read.instruments


@pytest.mark.parametrize(
    ("line", "keys", "message"),
    [
        (
            2,
            ['speaks = "astm"', 'model = "modular-analyzer"'],
            '"astm": modular-analyzer speaks "hl7"; models that speak "astm" are blood-cell-counter',
        ),
        (2, ['speaks = "dicom"', 'model = "modular-analyzer"'], "hl7"),
        (
            3,
            ['model = "modular-analyzer"', 'dialect = ["checksum-lower"]'],
            '"checksum-lower": is an option of "astm" or "astm-serial"; the options of "hl7" are latin-1',
        ),
        (3, ['model = "modular-analyzer"', 'dialect = ["image"]'], "images"),
        (
            3,
            ['model = "modular-analyzer"', 'dialect = ["latin-1", "gb-18030"]'],
            '"latin-1" and "gb-18030" contradict each other; give one of them',
        ),
        (3, ['model = "modular-analyzer"', 'dialect = "images"'], '["many-writes"], or "random"'),
        (3, ['model = "modular-analyzer"', "dialect = [1]"], '["many-writes"], or "random"'),
        (3, ['model = "chemistry-analyzer"', 'dialect = "random"'], "the vendor's agent has none"),
        (3, ['model = "chemistry-analyzer"', 'dialect = ["images"]'], "the vendor's agent has no options"),
        (3, ['model = "modular-analyzer"', 'report_every = "500ms"'], "must be at least 1s"),
        (
            4,
            [
                'model = "electrolyte-analyzer"',
                "[[instrument]]",
                'model = "batch-chemistry-analyzer"',
                "port = 2",
            ],
            "batch-chemistry-analyzer has an RS-232 line; rap-4 has 1 serial port, which is in use",
        ),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_a_correction(
    line: int, keys: list[str], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        lab(*keys)
    assert message in str(caught.value)
    assert f"standards.toml:{LINE + line}" in str(caught.value)
