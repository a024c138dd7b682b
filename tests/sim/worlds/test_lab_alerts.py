"""The data center of a lab evaluates triggers, if the lab expects alerts."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings.problems import SettingsError
from sim.lab.labfile import parse_lab
from sim.worlds import run_lab
from tests.support.paths import LABS

TEXT = (LABS / "14-alerts.toml").read_text()
EXPECTED = '{ trigger = "silent-box", within = "1h5min" }'


def test_an_alert_that_is_not_expected_is_false_and_one_that_is_not_raised_is_missing() -> None:
    text = TEXT.replace('"4h"', '"63min"').replace('lasts = "90min"', "")
    text = (
        text.replace('"30min"', '"1min"').replace("silent-box", "chemistry-software").replace("1h5min", "1h")
    )
    lab = parse_lab(text, Path("x.toml"))
    result = run_lab(lab)
    failed = [one.name for one in result.expectations if not one.holds]
    assert failed == ["alerts", "false_alerts"]
    (alert,) = result.alerts
    assert (alert.trigger, alert.source) == ("silent-box", "RAP-BOX")
    assert alert.began_ns <= alert.raised_ns <= 63 * 60 * 10**9
    assert alert.ended_ns is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            '{ trigger = "silent-bx", within = "1h" }',
            r'expect.alerts\[0\].trigger: "silent-bx": .*silent-box',
        ),
        (
            '{ trigger = "immunoassay-peltier", within = "1h" }',
            r"immunoassay-peltier is a trigger of the model immunoassay-analyzer, of which this lab has no",
        ),
        ('{ trigger = "silent-box", within = "5h" }', r"within: is longer than the lab; give a shorter time"),
        ('{ trigger = "silent-box" }', r"within: is missing"),
        ('{ trigger = "silent-box", within = "soon" }', r'expect.alerts\[0\].within: "soon"'),
        ('{ trigger = "silent-box", within = "1h", by = 1 }', r"by"),
        ('"silent-box"', r"expect.alerts\[0\]"),
    ],
)
def test_a_wrong_expected_alert_is_refused_with_a_correction(wrong: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_lab(TEXT.replace(EXPECTED, wrong), Path("x.toml"))


def test_a_negative_count_of_false_alerts_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"expect\.false_alerts: "):
        parse_lab(TEXT.replace("false_alerts = 0", "false_alerts = -1"), Path("x.toml"))
