"""Trigger files: every mistake is reported with its line, its column and the correction."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.triggers.triggerfile import parse_trigger
from settings.problems import SettingsError

FILE = Path("lamp-weak.toml")
GOOD = """\
model = "chemistry-analyzer"
severity = "warning"
component = "lamp"
text = "The photometer lamp will fail soon"
parts = ["Halogen lamp"]
when = "ewma(lamp-intensity-pct, 64) < 70 and state is running"
lasts = "2h"
until = "ewma(lamp-intensity-pct, 64) > 75"
"""


def test_a_complete_file_is_read() -> None:
    trigger = parse_trigger(GOOD, FILE)
    assert (trigger.name, trigger.lasts_ms, trigger.table.parts) == ("lamp-weak", 7_200_000, ["Halogen lamp"])


@pytest.mark.parametrize(
    ("was", "becomes", "line", "message"),
    [
        ("chemistry-analyzer", "chemistry-analyser", 1, "did you mean chemistry-analyzer?"),
        ('"lamp"', '"lampe"', 3, "did you mean lamp?"),
        ("Halogen lamp", "Lamp", 5, "Lamp is not a spare part of lamp; must be Halogen lamp"),
        (
            "lamp-intensity-pct, 64) < 70",
            "lamp-intensity, 64) < 70",
            6,
            "column 6: lamp-intensity is not in the profile",
        ),
        ("is running", "is runing", 6, "column 48: runing is not a state; did you mean running?"),
        (
            "ewma(lamp-intensity-pct, 64) < 70 and",
            "ewna(lamp-intensity-pct, 64) < 70 and",
            6,
            "did you mean ewma?",
        ),
        ("64) < 70 and", "0) < 70 and", 6, "must be a whole number from 1 to 4096"),
        ("64) < 70 and", "64, 3) < 70 and", 6, "the arguments must be ewma(input, count)"),
        ("64) < 70 and", "64) and", 6, "column 1: is a number, not a condition"),
        ("< 70 and", "< 70 + state is", 6, '"is" compares the state only'),
        ("< 70 and", "< 70 * lamp-h * lamp-h and", 6, "one of the two factors must be a constant"),
        ("< 70 and", "< 70 / 0 and", 6, "divide by a constant other than 0"),
        ("< 70 and", "< 6h and", 6, "is a duration; it can only be the window of a function"),
        (
            "< 70 and",
            "< 70.123456789123456789 and",
            6,
            "needs integers of more than 64 bits; round the numbers",
        ),
        ("ewma(lamp-intensity-pct, 64) < 70 and", "3 < 70 and", 6, "compares constants only"),
        (
            "ewma(lamp-intensity-pct, 64) < 70 and",
            'westgard(glu, \\\\"1-2s\\\\") and',
            6,
            'must be one of "1-3s"',
        ),
        (
            "ewma(lamp-intensity-pct, 64) < 70 and",
            "qc(glu, 4) > 1 and",
            6,
            "the level of a control is 1, 2 or 3",
        ),
        (
            "ewma(lamp-intensity-pct, 64) < 70 and",
            "mean(lamp-h, 5) > 1 and",
            6,
            "must be a duration, for example",
        ),
        (
            "ewma(lamp-intensity-pct, 64) < 70 and",
            "normal-low(lamp-h) > lamp-h and",
            6,
            "has no normal range",
        ),
        ("2h", "2 hours", 7, 'for example "30min"'),
        ("> 75", ">> 75", 8, "column 31: a number, a word or a condition is missing"),
        ("until =", "unless =", 8, "until"),
    ],
)
def test_mistakes(was: str, becomes: str, line: int, message: str) -> None:
    assert was in GOOD
    with pytest.raises(SettingsError) as error:
        parse_trigger(GOOD.replace(was, becomes.replace("\\\\", "\\")), FILE)
    assert f"lamp-weak.toml:{line}: " in str(error.value)
    assert message in str(error.value)


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        parse_trigger(GOOD.replace("< 70", "<").replace("2h", "2").replace("Halogen", "Xenon"), FILE)
    assert len(str(error.value).splitlines()) == 3
