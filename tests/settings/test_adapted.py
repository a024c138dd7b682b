"""Settings of an adapted port, whose instrument uses a standard protocol instead of the vendor's agent."""

from decimal import Decimal
from pathlib import Path

import pytest

from settings.adapted import AdaptedPort, ControlTarget
from settings.problems import SettingsError
from settings.toml import dumps, loads

FILE = Path("site.toml")
PORT = """
timezone = "+01:00"
tests = { WBC = "wbc" }
alarms = { "INV-2:NE" = { code = "R0101", component = "reagent", severity = "error" } }

[controls.CN271]
level = 1
wbc = ["2.30", "0.10"]
"""


def test_settings_of_an_adapted_port_are_read() -> None:
    port = loads(PORT, FILE, AdaptedPort)
    assert port.controls["CN271"].targets == {"wbc": ControlTarget(Decimal("2.30"), Decimal("0.10"))}
    assert port.alarms["INV-2:NE"].code == "R0101"


def test_settings_written_back_are_equal() -> None:
    port = loads(PORT, FILE, AdaptedPort)
    assert loads(dumps(port), FILE, AdaptedPort) == port


@pytest.mark.parametrize(
    ("valid", "invalid", "message"),
    [
        ('["2.30", "0.10"]', '["2.30", "0"]', "site.toml:6: controls.CN271"),
        ('["2.30", "0.10"]', "[2.30, 0.10]", "decimal strings"),
        ("level = 1", "level = 4", "`level` must be 1, 2 or 3"),
        ("level = 1", "level = true", "`level` must be 1, 2 or 3"),
        ('"+01:00"', '"Mars/Olympus"', "is not a time zone"),
        ('"+01:00"', '"+25:00"', "is not a time zone"),
        ("WBC =", '"W\\nBC" =', "tests"),
        ('"R0101"', '"R1"', "write it like T0100"),
    ],
)
def test_the_error_for_an_invalid_setting_explains_it(valid: str, invalid: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        loads(PORT.replace(valid, invalid), FILE, AdaptedPort)
    assert message in str(caught.value)
