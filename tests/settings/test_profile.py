"""Instrument profiles: the shipped ones, and the errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings.problems import SettingsError
from settings.profile import load_profile, parse_profile, profile_names

VALID = """\
model = "test-analyzer"
version = 3
summary = "an analyzer for tests"
speaks = "hl7"
verbs = ["help-file"]
desktop_port = 5900
desktop = { size = [1024, 768], masked = [[300, 80, 400, 24], [0, 0, 1024, 768]] }

[channels]
bath-temp-mc = { text = "Bath", unit = "0.001 °C", resolution = 10, normal = [36900, 37100] }

[assays]
glu = "Glucose"

[components]
bath = { text = "Bath", parts = ["Heater"] }

[errors]
T0100 = { component = "bath", severity = "error", text = "Bath out of range", advice = "Check the heater." }

[dialect]
first-frame = 0
"""


def problems_of(text: str, file: str = "test-analyzer.toml") -> str:
    with pytest.raises(SettingsError) as caught:
        parse_profile(text, Path(file))
    return str(caught.value)


def test_a_profile_is_read() -> None:
    profile = parse_profile(VALID, Path("test-analyzer.toml"))
    assert (profile.version, profile.speaks, profile.dialect) == (3, "hl7", {"first-frame": 0})
    assert profile.errors["T0100"].component == "bath"


@pytest.mark.parametrize("model", profile_names())
def test_each_shipped_profile_is_valid(model: str) -> None:
    assert load_profile(model).model == model


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ("bath-temp-mc", "bath-temp-pa", "test-analyzer.toml:10: channels.bath-temp-pa.unit"),
        ("bath-temp-mc", "Bath", 'channels.Bath: "Bath": write it like reaction-temp-mc'),
        ("[36900, 37100]", "[37100, 36900]", "low below high"),
        ("resolution = 10", "resolution = 0", "resolution"),
        ("T0100", "T100", "write it like T0100"),
        ('component = "bath"', 'component = "lamp"', "lamp is not one of [components], which are bath"),
        ('"error"', '"fatal"', "must be one of info, warning, error, critical"),
        ('["help-file"]', '["help-file", "help-file"]', "list each verb once"),
        ('["help-file"]', '["reboot"]', "verbs[0]"),
        ('speaks = "hl7"', 'speaks = "agent"', "options are for instruments that speak a standard"),
        ('speaks = "hl7"', 'speaks = "dicom"', "speaks"),
        ("version = 3", "version = 0", "version"),
        ('glu = "Glucose"', 'glu = "Glu\\ncose"', "assays.glu"),
        ("[300, 80, 400, 24]", "[700, 80, 400, 24]", "is not an area of a screen of 1024×768 pixels"),
        ("[300, 80, 400, 24]", "[300, 80, 400, 0]", "write [x, y, width, height]"),
        ("[300, 80, 400, 24]", "[300, 80, 400]", "desktop.masked[0]"),
        ("desktop_port = 5900\n", "", "describes the screen of a `desktop_port`, which is missing"),
        (
            "desktop_port = 5900",
            'desktop_port = 5900\ndesktop_service = "tcp"',
            "only do with `desktop_service`",
        ),
        ("size = [1024, 768]", "size = [1024, 0]", "desktop.size"),
        ("summary", "sumary", "did you mean summary?"),
    ],
)
def test_the_error_for_an_invalid_profile_names_the_correction(
    valid: str, invalid: str, message: str
) -> None:
    assert valid in VALID
    assert message in problems_of(VALID.replace(valid, invalid))


def test_the_file_must_have_the_name_of_the_model() -> None:
    assert "must be named test-analyzer.toml" in problems_of(VALID, "other.toml")


def test_the_error_for_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="hematology-analyzer"):
        load_profile("chemistry-analyser")
