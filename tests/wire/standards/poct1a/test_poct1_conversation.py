"""Conversations with point-of-care instruments: a documented one, quality control, patients, and invalid input."""

from __future__ import annotations

import random
import re
import tracemalloc
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.wire.instrument_cases import Played, play, port_of
from wire.standards.engine import Close, Count, Deliver, Outcome
from wire.standards.extract import Reason
from wire.standards.poct1a import Poct1Receiver
from wire.standards.poct1a.documents import DOCUMENT_BYTES_MAX

NOW_MS = 1_930_390_200_000
CONFIG: dict[str, Any] = {
    "timezone": "+01:00",
    "tests": {"6690-2": "wbc", "789-8": "rbc", "718-7": "hgb"},
    "controls": {
        "PIX201205N": {"level": 2, "wbc": ["12.0", "0.5"], "rbc": ["7.5", "0.1"]},
        "Qualität": {"level": 1, "wbc": ["12.0", "0.5"]},
    },
    "alarms": {
        "131228": {"code": "E0128", "component": "software", "severity": "error"},
        "EVT.severity_cd:W": {"code": "E0001", "component": "software", "severity": "warning"},
    },
}
CLOCK = "2006-01-01T13:40:47-08:00"


def receiver(**config: Any) -> Poct1Receiver:
    return Poct1Receiver(port_of({**CONFIG, **config}), lambda: NOW_MS)


def message(kind: str, body: str = "", control_id: str = "10", *, declared: bool = True) -> bytes:
    header = f'<HDR><HDR.control_id V="{control_id}"/><HDR.creation_dttm V="{CLOCK}"/></HDR>'
    declaration = '<?xml version="1.0" encoding="utf-8"?>' if declared else ""
    return f"{declaration}<{kind}>{header}{body}</{kind}>".encode()


def hello(*directives: str) -> bytes:
    supported = "".join(f'<DSC.directives_supported_cd V="{d}"/>' for d in directives)
    return message("HEL.R01", f'<DEV><DEV.device_id V="X^Model^S01"/><DSC>{supported}</DSC></DEV>', "1")


def status(new: str = "0", events: str = "0", condition: str = "R") -> bytes:
    body = (
        f'<DST><DST.status_dttm V="{CLOCK}"/><DST.new_observations_qty V="{new}"/>'
        f'<DST.new_events_qty V="{events}"/><DST.condition_cd V="{condition}"/></DST>'
    )
    return message("DST.R01", body, "2")


def control(
    role: str = "LQC", name: str = "PIX201205N", value: str = "12.5", extra: str = "", kind: str = "OBS.R02"
) -> bytes:
    body = (
        f'<SVC><SVC.role_cd V="{role}"/><SVC.observation_dttm V="2031-03-04T08:00:01+01:00"/>{extra}'
        f'<CTC><CTC.name V="{name}"/><CTC.lot_number V="L1"/><CTC.level_cd V="N"/>'
        f'<OBS><OBS.observation_id V="6690-2" SN="LN"/><OBS.value V="{value}" U="10*3/uL"/>'
        '<OBS.status_cd V="A"/><NTE><NTE.text V="a note"/></NTE></OBS></CTC>'
        '<OPR><OPR.operator_id V="12345"/></OPR></SVC>'
    )
    return message(kind, body, "5")


def patient(name: str = "Any Name", role: str = "OBS") -> bytes:
    body = (
        f'<SVC><SVC.role_cd V="{role}"/><PT><PT.patient_id V="{name}"/><OBS><OBS.observation_id V="6690-2"/>'
        '<OBS.value V="4.5"/></OBS><OBS><OBS.observation_id V="789-8"/><OBS.value V="4.5"/></OBS></PT></SVC>'
    )
    return message("OBS.R01", body, "6")


def event(*elements: tuple[str, str]) -> bytes:
    body = "".join(f'<EVT.{name} V="{value}"/>' for name, value in elements)
    return message("EVS.R01", f"<EVT>{body}</EVT>", "7")


def replies(played: Played) -> list[str]:
    """Return the kind and the values of each message that the box sent, without its header."""
    return [_describe(sent) for sent in played.sent]


def _describe(sent: bytes) -> str:
    root = ElementTree.fromstring(sent.strip(b"\x0b\x1c\r"))
    values = [element.get("V", "") for element in root[1].iter() if element is not root[1]]
    return " ".join([root.tag, *values])


def test_the_conversation_of_a_dca_vantage_is_followed() -> None:
    eot = message("EOT.R01", '<EOT><EOT.eot_control_id V="3"/><EOT.topic_cd V="OBS"/></EOT>', "4")
    ack = message("ACK.R01", '<ACK><ACK.type_cd V="AA"/><ACK.ack_control_id V="5"/></ACK>', "5")
    played = play(
        receiver(), [hello("START_CONTINUOUS", "FORCE_LOW"), status("1", condition="B"), patient(), eot, ack]
    )
    assert replies(played) == [
        "ACK.R01 AA 1",
        "ACK.R01 AA 2",
        "REQ.R01 ROBS",
        "ACK.R01 AA 6",
        "DTV.R01 START_CONTINUOUS",
    ]
    assert played.as_reports() == [{"kind": "status", "state": "running", "at": 1_136_151_647_000}]
    assert played.audit() == {"patient-results-dropped": 1}


def test_events_are_requested_after_observations_and_the_end_without_continuous_mode() -> None:
    eot = message("EOT.R01")
    pieces = [hello(), status("2", "1"), eot, event(("number", "131228")), eot]
    played = play(receiver(), pieces)
    assert replies(played)[1:] == [
        *("ACK.R01 AA 2", "REQ.R01 ROBS", "REQ.R01 RDEV", "ACK.R01 AA 7", "END.R01 NRM")
    ]
    played = play(receiver(dialect={"acknowledge-end-of-topic": True}), pieces)
    assert replies(played)[2:5] == ["REQ.R01 ROBS", "ACK.R01 AA 10", "REQ.R01 RDEV"]


def test_a_refused_directive_is_not_repeated_and_a_status_in_continuous_mode_requests_nothing() -> None:
    engine = receiver()
    play(engine, [hello("START_CONTINUOUS"), status()])
    assert replies(play(engine, [status("1")])) == ["ACK.R01 AA 2"]
    assert replies(play(engine, [message("ESC.R01"), status()])) == ["ACK.R01 AA 2", "END.R01 NRM"]


@pytest.mark.parametrize(("condition", "state"), [("R", "idle"), ("B", "running"), ("L", "stopped")])
def test_the_condition_of_the_device_is_its_state(condition: str, state: str) -> None:
    assert play(receiver(), [status(condition=condition)]).as_reports()[0]["state"] == state
    assert play(receiver(), [status(condition="?")]).audit() == {"value-unreadable": 1}


@pytest.mark.parametrize("role", ["LQC", "EQC"])
def test_a_control_that_the_site_has_entered_is_quality_control(role: str) -> None:
    played = play(receiver(), [control(role)])
    assert played.as_reports() == [
        {"kind": "quality", "assay": "wbc", "level": 2, "deviation_msd": 1000, "at": 1_930_374_001_000}
    ]
    assert replies(played) == ["ACK.R01 AA 5"]


@pytest.mark.parametrize(
    ("sent", "audit"),
    [
        (patient(), "patient-results-dropped"),
        (patient("PIX201205N", "LQC"), "patient-results-dropped"),
        (control("OBS"), "patient-results-dropped"),
        (control("CAL"), "patient-results-dropped"),
        (control(kind="OBS.R01"), "patient-results-dropped"),
        (control(extra='<PT><PT.patient_id V="1"/></PT>'), "patient-results-dropped"),
        (control(name="unknown"), "control-unknown"),
        (control(value="high"), "value-unreadable"),
    ],
)
def test_results_that_are_not_certainly_quality_control_are_only_counted(sent: bytes, audit: str) -> None:
    played = play(receiver(), [sent])
    assert not played.findings and played.audit() == {audit: 1}
    assert replies(played)[0].startswith("ACK.R01 AA")


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "gb18030"])
def test_the_declared_character_set_does_not_matter(charset: str) -> None:
    sent = control(name="Qualität").decode().encode(charset)
    assert len(play(receiver(), [sent]).findings) == 1


@pytest.mark.parametrize(
    ("elements", "codes", "unknown"),
    [
        ((("number", "131228"), ("severity_cd", "W"), ("description", "Name")), ["E0128"], 0),
        ((("number", "9"), ("severity_cd", "W")), ["E0001"], 0),
        ((("number", "9"),), [], 1),
        ((("severity_cd", "C"),), [], 1),
        ((("severity_cd", "N"), ("description", "131228")), [], 0),
    ],
)
def test_an_event_is_an_alarm_by_its_number_or_severity(
    elements: tuple[tuple[str, str], ...], codes: list[str], unknown: int
) -> None:
    played = play(receiver(), [event(*elements)])
    assert [report["code"] for report in played.as_reports()] == codes
    assert played.audit()["alarm-unknown"] == unknown


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"<OBS.R01><HDR><HDR.control_id V='1'/></OBS.R01>", "ACK.R01 AE "),
        (b'<!DOCTYPE x [<!ENTITY e "x">]>' + message("KPA.R01", declared=False), "ACK.R01 AE "),
        (message("KPA.R01", "<x>&e;</x>"), "ACK.R01 AE "),
        (message("KPA.R01", control_id=""), "ACK.R01 AE "),
        (message("KPA.R01", control_id="9" * 65), "ACK.R01 AE "),
        (message("KPA.R01", "<a>" * 20 + "</a>" * 20), "ACK.R01 AE "),
        (message("KPA.R01", f'<x V="{"x" * DOCUMENT_BYTES_MAX}"/>'), "ACK.R01 AE "),
    ],
)
def test_invalid_documents_are_refused_with_an_answer_and_the_connection_continues(
    bad: bytes, code: str
) -> None:
    played = play(receiver(), [bad, status()])
    assert replies(played)[:2] == [code, "ACK.R01 AA 2"]
    assert played.audit() == {"message-refused": 1} and len(played.findings) == 1


def test_mllp_framing_is_answered_with_mllp_framing() -> None:
    played = play(receiver(), [b"\x0b" + status() + b"\x1c\r" + status()])
    assert [sent[:1] + sent[-2:] for sent in played.sent[::2]] == [b"\x0b\x1c\r", b"<1>"]


def test_an_unfinished_document_is_counted_when_the_next_begins() -> None:
    for length in range(30, len(status()) - 1):
        played = play(receiver(), [status()[:length] + hello()])
        assert played.audit() == {"message-unfinished": 1}
        assert replies(played) == ["ACK.R01 AA 1"]


def test_a_control_id_with_markup_characters_is_repeated_escaped() -> None:
    control_id = "&amp;&lt;&gt;&quot;'&#10;&#13;&#9;"
    (sent,) = play(receiver(), [message("KPA.R01", control_id=control_id)]).sent
    element = ElementTree.fromstring(sent).find(".//ACK.ack_control_id")
    assert element is not None and element.get("V") == "&<>\"'\n\r\t"


def test_the_control_id_is_repeated_byte_by_byte() -> None:
    (sent,) = play(receiver(), [message("KPA.R01", control_id="a&amp;\u00e9&lt;")]).sent
    assert b'V="a&amp;\xc3\xa9&lt;"' in sent


STREAM = b"".join(
    (
        b"log line\n",
        hello("START_CONTINUOUS"),
        b"\r\n",
        status("1"),
        control(),
        patient(),
        b"\0",
        event(("number", "131228")),
    )
)


def test_the_result_does_not_depend_on_how_the_bytes_are_split() -> None:
    expected = play(receiver(), [STREAM])
    assert len(expected.findings) == 3 and len(expected.sent) == 6
    for split in range(1, len(STREAM), 3):
        assert play(receiver(), [STREAM[:split], STREAM[split:]]) == expected
    assert play(receiver(), [bytes([byte]) for byte in STREAM]) == expected


def test_no_byte_of_a_patient_or_operator_changes_reports_counts_or_replies() -> None:
    expected = play(receiver(), [STREAM])
    choice = random.Random(1)
    allowed = bytes(byte for byte in range(0x20, 0x100) if byte not in b"|^~\\&@<>\"'")
    ranges = [
        match.span(1)
        for match in re.finditer(rb'(?:patient_id|operator_id|text|device_id) V="([^"]*)"', STREAM)
    ]
    assert len(ranges) == 4
    for _ in range(300):
        variant, position = b"", 0
        for first, end in ranges:
            length = choice.choice((end - first, 0, 300))
            variant += STREAM[position:first] + bytes(choice.choices(allowed, k=length))
            position = end
        assert play(receiver(), [variant + STREAM[position:]]) == expected


def test_any_bytes_are_processed_without_an_exception() -> None:
    choice = random.Random(2)
    for _ in range(60):
        pieces = []
        for _ in range(8):
            start = choice.randrange(len(STREAM))
            garbage = choice.randbytes(choice.randrange(20))
            pieces.append(STREAM[start : start + choice.randrange(400)] + garbage)
        play(receiver(), pieces)


@pytest.mark.parametrize(
    "stream",
    [
        message("KPA.R01", f'<x V="{"y" * 32_000}"/>'),
        message("OBS.R01", "<SVC>" + "<OBS/>" * 5_000 + "</SVC>"),
        message("DST.R01", "".join(f"<a{number}/>" for number in range(3_500))),
        message("EVS.R01", "<EVT>" + "".join(f"<a{number}/>" for number in range(3_500)) + "</EVT>"),
        b"<OBS.R01 " + b"</OBS.R0" * 40_000,
        b"<" * 300_000,
        b"<x" * 150_000,
        b"\xff" * 300_000,
    ],
)
def test_no_stream_makes_a_port_use_more_than_its_bound(stream: bytes) -> None:
    tracemalloc.start()
    try:
        engine = receiver()
        before = tracemalloc.get_traced_memory()[0]
        for start in range(0, len(stream), 65_536):
            engine.receive(stream[start : start + 65_536], 0.0)
        assert tracemalloc.get_traced_memory()[1] - before < 256 * 1024 + 65_536  # the test's own chunk
    finally:
        tracemalloc.stop()


def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    engine = receiver()
    first, *rest = engine.receive(status() + control(), 0.0)
    assert isinstance(first, Deliver) and not rest
    actions = engine.decided(Outcome.BUSY, 0.0)
    assert actions[0] == Count(Reason.NOT_STORED)
    assert isinstance(actions[-1], Deliver)


def test_other_messages_are_acknowledged_and_counted() -> None:
    assert play(receiver(), [message("REQ.R01")]).audit() == {"query-ignored": 1}
    assert play(receiver(), [message("XYZ.R01")]).audit() == {"message-ignored": 1}
    assert replies(play(receiver(), [message("KPA.R01")])) == ["ACK.R01 AA 10"]


def test_the_instruments_end_closes_the_connection_and_silence_does_if_configured() -> None:
    assert receiver().receive(message("END.R01"), 0.0)[-1] == Close()
    assert receiver().deadline is None
    engine = receiver(dialect={"silence-s": 90})
    assert engine.deadline == 90.0 and engine.expired(89.0) == [] and engine.expired(90.0) == [Close()]


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ValueError, match="continuos"):
        receiver(dialect={"continuos": True})
