"""Equipment status, inventory and notifications."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.wire.hl7 import MSH, block, receiver
from tests.support.wire.instrument_cases import Played, play

ALARMS = {
    "EQU-5:C": {"code": "E0001", "component": "software", "severity": "critical"},
    "INV-2:NE": {"code": "R0101", "component": "reagent", "severity": "error"},
    "P-CLOT": {"code": "P0201", "component": "pipettor", "severity": "error"},
    "Störung": {"code": "P0202", "component": "pipettor", "severity": "warning"},
}
TESTS = {"TSH3": "tsh", "FT4": "ft4"}


def played(kind: str, *segments: str | bytes, end: bytes = b"\r", **config: Any) -> Played:
    message = block(MSH.format(kind=kind, id="1"), *segments, end=end)
    return play(receiver(alarms=ALARMS, tests=TESTS, **config), [message])


@pytest.mark.parametrize(
    ("code", "state"),
    [
        *((code, "maintenance") for code in ("PU", "IN", "CO", "CL", "MA")),
        *((code, "stopped") for code in ("PA", "PD", "ES")),
        ("ID", "idle"),
        ("OP^Normal Operation^HL70365", "running"),
    ],
)
def test_each_state_of_the_equipment_is_a_state_of_the_instrument(code: str, state: str) -> None:
    (report,) = played("ESU^U01", f"EQU|I400|20310304123000|{code}").as_reports()
    assert report == {"kind": "status", "state": state, "at": 1_930_390_200_000}


@pytest.mark.parametrize(("code", "unreadable"), [("", 0), ('""', 0), ("op", 1), ("XX", 1), ("OPX", 1)])
def test_an_empty_or_unknown_state_yields_no_status(code: str, unreadable: int) -> None:
    result = played("ESU^U01", f"EQU|I400|20310304123000|{code}")
    assert not result.findings
    assert result.audit()["value-unreadable"] == unreadable


@pytest.mark.parametrize(("level", "alerts", "unknown"), [("C", 1, 0), ("N", 0, 0), ("", 0, 0), ("W", 0, 1)])
def test_an_alert_level_is_an_alarm_unless_it_is_normal(level: str, alerts: int, unknown: int) -> None:
    result = played("ESU^U01", f"EQU|I400|20310304123000|OP||{level}")
    assert [report["kind"] for report in result.as_reports()] == ["status"] + ["alert"] * alerts
    assert result.audit()["alarm-unknown"] == unknown


@pytest.mark.parametrize(
    ("quantities", "left"),
    [
        ("200|183|180", 180),
        ("200|183|", 183),
        ("200|183|0", 0),
        ("200||180.0", 180),
        ("200||", None),
        ('200|""|""', None),
    ],
)
def test_tests_left_are_the_available_or_else_the_current_quantity(quantities: str, left: int | None) -> None:
    result = played("INU^U05", "EQU|I|20310304120000", f"INV|TSH3|OK|SR|||3|{quantities}||TEST")
    assert [report["tests_left"] for report in result.as_reports()] == (
        [] if left is None else [{"tsh": left}]
    )
    assert not result.audit()


@pytest.mark.parametrize(
    "quantity", ["-1||TEST", "many||TEST", "1e3||TEST", "12||ML", "9007199254740992||TEST", "1~2||TEST|"]
)
def test_a_quantity_that_is_not_a_number_of_tests_is_counted(quantity: str) -> None:
    result = played("INU^U05", f"INV|FT4|OK|SR||||||{quantity}", "INV|TSH3|OK|SR||||||5||")
    unreadable = 0 if "~" in quantity else 1
    tests_left = {"tsh": 5} if unreadable else {"ft4": 1, "tsh": 5}
    assert result.as_reports()[0]["tests_left"] == tests_left
    assert result.audit()["value-unreadable"] == unreadable


def test_all_containers_of_an_assay_are_counted_together() -> None:
    rows = [f"INV|TSH3|OK|SR|||{position}|100|{left}|{left}||TEST" for position, left in ((1, 7), (2, 100))]
    (report,) = played("INU^U05", "EQU|I|20310304120000", *rows).as_reports()
    assert report["tests_left"] == {"tsh": 107}


def test_an_alarm_of_a_substance_follows_the_inventory_and_unknown_codes_are_counted() -> None:
    result = played(
        "INU^U05", "EQU|I|20310304120000", "INV|TSH3|NE||||||0|0", "INV|FT4|QQ||||||1|1", "INV|XX|OK||||||1|1"
    )
    assert [report["kind"] for report in result.as_reports()] == ["inventory", "alert"]
    assert result.audit() == {"alarm-unknown": 1, "test-unknown": 1}


def test_ignored_substances_are_neither_reported_nor_counted() -> None:
    result = played("INU^U05", "EQU|I|20310304120000", "INV|WASH|NE||||||1|1", ignore=["WASH"])
    assert not result.findings and not result.audit()


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "gb18030"])
def test_a_notification_is_recognized_in_any_character_set(charset: str) -> None:
    result = played("EAN^U09", "NDS|1|20310304121459|S|Störung^…^L".replace("…", "").encode(charset))
    assert [report["code"] for report in result.as_reports()] == ["P0202"]


def test_each_notification_of_a_message_is_an_alert_and_notes_are_not() -> None:
    result = played(
        "EAN^U09",
        *("NDS|1|20310304121459|S|P-CLOT", "NTE|1||P-CLOT", "NDS|2|20310304121501|S|P-XX", "NTE|1||x"),
        "NDS|3|20310304121502|S|P-CLOT",
    )
    assert [report["at"] for report in result.as_reports()] == [1_930_389_299_000, 1_930_389_302_000]
    assert result.audit() == {"alarm-unknown": 1}


@pytest.mark.parametrize(
    ("time", "config", "at"),
    [
        ("20310304123000", {}, 1_930_390_200_000),
        ("20310304113000+0000", {}, 1_930_390_200_000),
        ("20310304123000", {"timezone": "UTC"}, 1_930_393_800_000),
        ("20310304", {}, 1_930_390_200_000),  # MSH-7
        ("", {}, 1_930_390_200_000),
        ("20310304123000", {"time": "reception"}, None),
    ],
)
def test_the_time_is_that_of_the_equipment_or_else_of_the_header(
    time: str, config: dict[str, Any], at: int | None
) -> None:
    (report,) = played("ESU^U01", f"EQU|I|{time}|ID", **config).as_reports()
    assert report.get("at") == at


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\x1c"])
def test_the_ends_of_segments_change_nothing(end: bytes) -> None:
    (report,) = played("ESU^U01", "EQU|I|20310304123000|ID", end=end).as_reports()
    assert report["state"] == "idle"
