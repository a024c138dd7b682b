"""Problems that users of other implementations reported, where no other test of the engine covers them."""

from __future__ import annotations

import logging

import pytest

from tests.support.runner.logged import logged
from tests.support.wire.hl7 import MSH, acknowledgements, block, receiver, status_message
from tests.support.wire.hl7_fuzz import fuzz
from tests.support.wire.instrument_cases import InstrumentCase, instrument_cases, play

CASES = {case.name: case for case in instrument_cases("hl7-mllp")}


@pytest.mark.parametrize(
    "charset",
    ["", "UNICODE UTF-8", "UNICODE", "8859/1", "ASCII", "GB 18030-2000", "no such", "UNICODE UTF-16"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "gb18030"])
def test_a_report_does_not_depend_on_the_declared_character_set(charset: str, encoding: str) -> None:
    """apache/camel #10880, ruby-hl7 #31, hl7apy #14."""
    alarms = {"Störung": {"code": "E0001", "component": "software", "severity": "error"}}
    header = MSH.format(kind="EAN^U09", id="1") + f"||||||{charset}"
    played = play(receiver(alarms=alarms), [block(header, "NDS|1||S|Störung^Gerät".encode(encoding))])
    assert [report["code"] for report in played.as_reports()] == ["E0001"]


def test_a_message_sent_a_thousand_times_is_answered_each_time_with_the_same_report() -> None:
    """nextgenhealthcare/connect #1314: the box's intake recognizes the repetition by the report."""
    played = play(receiver(), [status_message("9")] * 1000)
    assert acknowledgements(played) == [("AA", "9", "U01")] * 1000
    assert all(finding == played.findings[0] for finding in played.findings)


@pytest.mark.parametrize("text", ["\\X000d\\", "\\X0A", "\\", "\\\\\\", "\\X\\", "\\.br\\", "\\S\\3\\"])
def test_escapes_in_a_note_do_not_shift_fields(text: str) -> None:
    """HL7-dotnetcore #53, python-hl7 #59."""
    alarms = {"P-CLOT": {"code": "E0001", "component": "software", "severity": "error"}}
    rows = [f"NTE|1||{text}", f"NDS|1|20310304121459{text}|S|P-CLOT^{text}"]
    played = play(receiver(alarms=alarms), [block(MSH.format(kind="EAN^U09", id="1"), *rows)])
    assert len(played.findings) == 1 and not played.audit()


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_nothing_of_a_message_is_logged_or_in_an_error(
    case: InstrumentCase, caplog: pytest.LogCaptureFixture
) -> None:
    """Integration-Hub-Beta #286."""
    caplog.set_level(logging.DEBUG)
    play(
        receiver(case.port),
        [case.data, block(b"PID|1||4711||Secret^Name"), b"\x0bMSH|^~\\&|Secret\rbad\r\x1c\r"],
    )
    assert not logged(caplog, "wire")


def test_random_streams_raise_nothing_and_a_valid_message_after_them_is_accepted() -> None:
    fuzzed = fuzz(seed=3, total=200_000)
    assert fuzzed.messages > 5
