"""Comparison of reports with the profile of their instrument."""

from __future__ import annotations

import pytest

from settings.profile import load_profile
from wire.messages import Alert, Calibration, CommandResult, InstrumentReport, Inventory, Quality, Status
from wire.profiles import AllowList

CHEMISTRY = AllowList(load_profile("chemistry-analyzer"))


@pytest.mark.parametrize(
    "report",
    [
        Status(1, 0, "idle", 0, {"reaction-temp-mc": 37_000, "lamp-h": 3}),
        Inventory(1, 0, {"glu": 3}),
        Quality(1, 0, "glu", 1, 0),
        Calibration(1, 0, "glu", 1, 0, True),
        Alert(1, 0, "L0100", "lamp", "warning"),
        CommandResult(1, 0, 1, "done"),
    ],
)
def test_names_in_the_profile_are_allowed(report: InstrumentReport) -> None:
    assert CHEMISTRY.refusal(report) == ""


@pytest.mark.parametrize(
    ("report", "name"),
    [
        (Status(1, 0, "idle", 0, {"lamp-h": 1, "sheath-pressure-pa": 3}), "sheath-pressure-pa"),
        (Inventory(1, 0, {"glu": 3, "miller": 1}), "miller"),
        (Quality(1, 0, "tsh", 1, 0), "tsh"),
        (Calibration(1, 0, "tsh", 1, 0, True), "tsh"),
        (Alert(1, 0, "Z9999", "lamp", "warning"), "Z9999"),
        (Alert(1, 0, "L0100", "laser", "warning"), "L0100 of component laser"),
    ],
)
def test_the_refusal_contains_the_name_that_is_not_in_the_profile(
    report: InstrumentReport, name: str
) -> None:
    assert name in CHEMISTRY.refusal(report)
    assert f"version {CHEMISTRY.profile.version}" in CHEMISTRY.refusal(report)
