"""Answers of the box as host: acknowledgements, refusals, and the end of silent connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.wire.hl7 import MSH, acknowledgements, block, receiver, status_message
from tests.support.wire.instrument_cases import play
from wire.standards.engine import Close, Count, Deliver, Outcome, Send
from wire.standards.extract import Reason
from wire.standards.mllp import MESSAGE_BYTES_MAX


def always(outcome: Outcome) -> Callable[[int], Outcome]:
    return lambda _: outcome


def answer(message: bytes, outcome: Outcome = Outcome.STORED, **config: Any) -> list[tuple[str, str, str]]:
    return acknowledgements(play(receiver(**config), [message], always(outcome)))


def segments_of(message: bytes) -> list[list[str]]:
    """Return the segments of the one acknowledgement to a message."""
    (sent,) = play(receiver(), [message]).sent
    return [line.split("|") for line in sent[1:-2].decode().split("\r")]


def test_nothing_is_acknowledged_before_it_is_durable() -> None:
    engine = receiver()
    first, *rest = engine.receive(status_message("1") + status_message("2"), 0.0)
    assert isinstance(first, Deliver) and not rest
    acknowledgement, second = engine.decided(Outcome.STORED, 0.0)
    assert isinstance(acknowledgement, Send) and b"MSA|AA|1\r" in acknowledgement.data
    assert isinstance(second, Deliver)
    (acknowledgement,) = engine.decided(Outcome.STORED, 0.0)
    assert isinstance(acknowledgement, Send) and b"MSA|AA|2\r" in acknowledgement.data


def test_an_acknowledgement_repeats_the_fields_that_instruments_compare() -> None:
    msh, msa, last = segments_of(
        block(
            "MSH|^~\\&|App|Fac|Host|HostFac|20310304123000||ESU^U01^ESU_U01| 47-11 |T|2.4|||||| 8859/1 ",
            "EQU|1||ID",
        )
    )
    assert msh[1:6] == ["^~\\&", "Host", "HostFac", "App", "Fac"]
    assert (msh[6], msh[8], msh[10], msh[11], msh[17]) == (
        "20310304123000",
        "ACK^U01^ACK",
        "T",
        "2.4",
        " 8859/1 ",
    )
    assert msa == ["MSA", "AA", " 47-11 "]
    assert last == [""]  # a carriage return after the last segment


def test_an_acknowledgement_has_the_delimiters_of_the_message() -> None:
    (sent,) = play(receiver(), [block("MSH#*+!%#A##B##1##ESU*U01*X#7#P#2.5.1", "EQU#1##ID")]).sent
    assert sent.startswith(b"\x0bMSH#*+!%#B##A##") and b"#ACK*U01*ACK#" in sent and b"\rMSA#AA#7\r" in sent


def test_control_ids_of_the_box_differ_and_have_at_most_20_characters() -> None:
    sent = play(receiver(), [status_message() * 1000]).sent
    ids = {line.split(b"|")[9] for line in sent}
    assert len(ids) == 1000 and {len(text) for text in ids} == {20}


@pytest.mark.parametrize(
    ("conditions", "stored", "busy", "refused"),
    [
        ("|", ["AA"], ["AE"], ["AE"]),
        ("|AL", ["AA"], ["AE"], ["AE"]),
        ("NE|AL", ["AA"], ["AE"], ["AE"]),
        ("ER|AL", ["AA"], ["AE"], ["AE"]),
        ("AL|NE", ["CA"], ["CE"], ["CE"]),
        ("AL|AL", ["CA", "AA"], ["CE"], ["CE"]),
        ("AL|ER", ["CA"], ["CE"], ["CE"]),
        ("ER|NE", [], ["CE"], ["CE"]),
        ("SU|SU", ["CA", "AA"], [], []),
        ("NE|NE", [], [], []),
        ("NE|ER", [], ["AE"], ["AE"]),
        ("xx|", ["AA"], ["AE"], ["AE"]),
    ],
)
def test_original_and_enhanced_mode(
    conditions: str, stored: list[str], busy: list[str], refused: list[str]
) -> None:
    message = block(MSH.format(kind="ESU^U01", id="1") + f"|||{conditions}", "EQU|1||ID")
    for outcome, codes in ((Outcome.STORED, stored), (Outcome.BUSY, busy), (Outcome.REFUSED, refused)):
        assert [code for code, _, _ in answer(message, outcome)] == codes
    original = answer(message, dialect={"acknowledgement": "original"})
    assert original == [("AA", "1", "U01")]


def test_a_message_that_cannot_be_stored_now_is_answered_with_an_error_and_counted() -> None:
    played = play(receiver(), [status_message()], always(Outcome.BUSY))
    assert acknowledgements(played) == [("AE", "1", "U01")]
    assert b"\rERR|||207^Application internal error^HL70357|E\r" in played.sent[0]
    assert played.audit() == {"not-stored": 1}
    silent = play(receiver(dialect={"busy": "silence"}), [status_message()], always(Outcome.BUSY))
    assert not silent.sent and silent.audit() == {"not-stored": 1}


def test_values_outside_the_profile_are_refused_and_counted() -> None:
    played = play(receiver(), [status_message()], always(Outcome.REFUSED))
    assert acknowledgements(played) == [("AE", "1", "U01")]
    assert played.audit() == {"message-refused": 1}


@pytest.mark.parametrize("message_id", ["", " ", "   "])
def test_a_message_without_an_id_is_an_error(message_id: str) -> None:
    played = play(receiver(), [status_message(message_id)])
    assert [code for code, _, _ in acknowledgements(played)] == ["AE"]
    assert not played.findings and played.audit() == {"message-refused": 1}


def test_messages_with_a_constant_id_are_distinguished() -> None:
    played = play(receiver(), [status_message("1", "ID"), status_message("1", "OP")])
    assert [report["state"] for report in played.as_reports()] == ["idle", "running"]
    assert acknowledgements(played) == [("AA", "1", "U01")] * 2


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("SSU^U03", "AA", "message-ignored"),
        ("LSU^U12", "AA", "message-ignored"),
        ("TCU^U10", "AA", "message-ignored"),
        ("QBP^Q11", "AR", "query-ignored"),
        ("QRY^Q02", "AR", "query-ignored"),
        ("EAC^U07", "AR", "message-ignored"),
        ("INR^U06", "AR", "message-ignored"),
        ("ADT^A01", "AR", "message-ignored"),
        ("", "AR", "message-ignored"),
    ],
)
def test_other_messages_are_answered_as_the_standard_requires(kind: str, code: str, reason: str) -> None:
    message = block(MSH.format(kind=kind, id="5"), "PID|1||4711||Any^Name", "EQU|1||ID")
    played = play(receiver(), [message])
    assert acknowledgements(played) == [(code, "5", kind.partition("^")[2])]
    assert not played.findings and played.audit() == {reason: 1}


@pytest.mark.parametrize("kind", ["ACK^U06", "ACK", "EAR^U08", "RSP^K11"])
def test_a_response_is_never_acknowledged(kind: str) -> None:
    played = play(receiver(), [block(MSH.format(kind=kind, id="5"), "MSA|AA|9")])
    assert not played.sent and played.audit() == {"message-ignored": 1}


@pytest.mark.parametrize(
    "bad",
    [
        block("GET / HTTP/1.1", "Host: box"),
        block(b"\xff\xfe\x00binary"),
        block("H|\\^&|||astm"),
        block(),
        block("EQU|1||ID"),
        block("FHS|^~\\&|batch"),
    ],
)
def test_a_message_that_is_not_hl7_is_refused_with_an_answer_and_the_connection_continues(bad: bytes) -> None:
    played = play(receiver(), [bad, status_message("2")])
    assert acknowledgements(played) == [("AR", "-", ""), ("AA", "2", "U01")]
    assert played.audit() == {"message-refused": 1} and len(played.findings) == 1


@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX + 1, 1_000_000])
def test_an_oversized_message_is_refused_with_an_answer_and_the_connection_continues(size: int) -> None:
    message = block(MSH.format(kind="ESU^U01", id="8"), "EQU|1||ID", "NTE|" + "x" * size)
    pieces = [message[start : start + 65_536] for start in range(0, len(message), 65_536)]
    played = play(receiver(), [*pieces, status_message("9")])
    assert acknowledgements(played) == [("AE", "8", "U01"), ("AA", "9", "U01")]
    assert played.audit() == {"message-refused": 1} and len(played.findings) == 1


def test_a_carriage_return_inside_a_field_is_refused_with_an_answer_and_the_connection_continues() -> None:
    bad = block(MSH.format(kind="EAN^U09", id="3"), "NTE|1||two\rlines", "NDS|1||S|P-CLOT")
    played = play(receiver(), [bad, status_message("4")])
    assert acknowledgements(played) == [("AE", "3", "U09"), ("AA", "4", "U01")]


def test_a_message_without_its_end_is_not_read_but_counted() -> None:
    message = status_message()
    for length in range(1, len(message)):
        played = play(receiver(), [message[:length]])
        assert not played.findings and not played.sent
        assert played.audit() == {"message-unfinished": 1}


def test_a_silent_connection_is_closed_only_if_configured() -> None:
    assert receiver().deadline is None
    engine = receiver(dialect={"silence-s": 90})
    assert engine.deadline == 90.0
    engine.receive(b"\x0bMSH", 5.0)
    assert engine.deadline == 95.0
    assert engine.expired(94.9) == []
    assert engine.expired(95.0) == [Close()]
    assert engine.closed(95.0) == [Count(Reason.MESSAGE_UNFINISHED)]


def test_an_instrument_that_sends_no_carriage_return_after_the_end_block_is_answered() -> None:
    message = status_message("1")[:-1]
    dialect = {"message-end": "fs"}
    for pieces in (
        [message],
        [message + message],
        [bytes([byte]) for byte in message],
        [message + b"\r" + message],
    ):
        played = play(receiver(dialect=dialect), pieces)
        assert len(acknowledgements(played)) == b"".join(pieces).count(b"\x1c") and not played.audit()
    assert not play(receiver(), [message]).sent


def test_delimiter_bytes_inside_characters_of_gb18030_are_data_with_the_option() -> None:
    name = "".join(chr(c) for c in range(0x4E00, 0x9FA5) if chr(c).encode("gb18030")[1:2] in b"|^~\\")[:40]
    alarms = {name: {"code": "E0001", "component": "software", "severity": "error"}}
    header = MSH.format(kind="EAN^U09", id=name).replace("I400", name)
    message = block(
        *(line.encode("gb18030") for line in (header, f"NDS|1|20310304123000|S^{name}|{name}^{name}|"))
    )
    played = play(receiver(alarms=alarms, dialect={"charset": "gb18030"}), [message])
    assert played.as_reports() == [
        {
            "kind": "alert",
            "code": "E0001",
            "component": "software",
            "severity": "error",
            "at": 1_930_390_200_000,
        }
    ]
    (sent,) = played.sent
    assert (
        b"\rMSA|AA|" + name.encode("gb18030") + b"\r" in sent and b"|Host||" + name.encode("gb18030") in sent
    )


def test_a_decision_without_an_undecided_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="undecided"):
        receiver().decided(Outcome.STORED, 0.0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"charset": "latin"}, "charset"),
        ({"charsett": "detect"}, "charsett"),
        ({"silence-s": -1}, "silence-s"),
        ({"control-id": "OBR3"}, "control-id"),
    ],
)
def test_an_unknown_option_or_value_is_named(options: dict[str, object], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        receiver(dialect=options)
