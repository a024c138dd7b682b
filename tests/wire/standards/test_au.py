"""Records of AU analyzers: delays of answers, and records that do not fit the configured columns."""

import msgspec
import pytest

from tests.support.wire.instrument_cases import Played, instrument_cases, play
from tests.support.wire.lines import counted, sent
from wire.messages import Quality
from wire.standards.au import ACK, NAK, AuEngine
from wire.standards.engine import Deliver, Outcome, Send
from wire.standards.extract import Finding, Reason

(CASE,) = instrument_cases("au-serial")
CONTROL = b"DQ0700120112345Q03       E017  4.15  021 14.70  "
CREA, GLU = Finding(Quality, ("crea", 3, 500)), Finding(Quality, ("glu", 3, -1000))
REFUSED = {Reason.FRAME_REFUSED: 1}


def au_played(*records: bytes) -> Played:
    return play(AuEngine(CASE.port), [b"".join(b"\x02" + record + b"\x03" for record in records)])


def test_the_answer_is_due_half_a_second_after_the_record_is_stored() -> None:
    engine = AuEngine(CASE.port)
    assert engine.receive(b"\x02DB\x03", 0) == [Send(ACK, 0.5)]
    (delivered,) = engine.receive(b"\x02" + CONTROL + b"\x03", 1)
    assert isinstance(delivered, Deliver)
    assert engine.decided(Outcome.STORED, 1) == [Send(ACK, 0.5)]


@pytest.mark.parametrize(
    ("outcome", "reply", "reason"),
    [(Outcome.BUSY, NAK, Reason.NOT_STORED), (Outcome.REFUSED, ACK, Reason.MESSAGE_REFUSED)],
)
def test_a_record_that_is_not_stored(outcome: Outcome, reply: bytes, reason: Reason) -> None:
    engine = AuEngine(CASE.port)
    engine.receive(b"\x02" + CONTROL + b"\x03", 0)
    actions = engine.decided(outcome, 0)
    assert (sent(actions), counted(actions)) == (reply, [reason])
    again = engine.receive(b"\x02" + CONTROL + b"\x03", 3)
    assert isinstance(again[-1], Deliver) == (outcome is Outcome.BUSY)


def test_a_repeated_record_is_read_once() -> None:
    played = au_played(CONTROL, CONTROL, b"DE", b"DB", CONTROL)
    assert played.findings == [CREA, GLU] * 2
    assert played.counts == {Reason.FRAME_REPEATED: 1}


@pytest.mark.parametrize("lost", range(26, len(CONTROL)))
def test_a_record_that_lost_a_byte_of_its_results_is_refused_and_not_shifted(lost: int) -> None:
    played = au_played(CONTROL[:lost] + CONTROL[lost + 1 :])
    assert (played.findings, played.counts, played.sent) == ([], REFUSED, [NAK])


@pytest.mark.parametrize(
    "record", [CONTROL + b" ", CONTROL + b"022", CONTROL[:20], CONTROL.replace(b"017", b" 17"), b""]
)
def test_a_record_that_does_not_fit_the_columns_is_refused(record: bytes) -> None:
    played = au_played(record)
    assert (played.findings, played.counts, played.sent) == ([], REFUSED, [NAK])


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        (b"  4.15", b" 4.1O ", {Reason.VALUE_UNREADABLE: 1}),
        (b"  4.15", b"4 .15 ", {Reason.VALUE_UNREADABLE: 1}),
        (b"  4.15", b"******", {}),
        (b"017", b"018", {Reason.TEST_UNKNOWN: 1}),
    ],
)
def test_only_the_invalid_reading_of_a_record_is_left_out(
    before: bytes, after: bytes, counts: dict[Reason, int]
) -> None:
    played = au_played(CONTROL.replace(before, after))
    assert (played.findings, played.counts, played.sent) == ([GLU], counts, [ACK])


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        (CONTROL.replace(b"Q03", b"Q04"), {Reason.CONTROL_UNKNOWN: 1}),
        (CONTROL.replace(b"DQ", b"D "), {Reason.PATIENT_RESULTS_DROPPED: 1}),
        (CONTROL.replace(b"DQ", b"DH"), {Reason.PATIENT_RESULTS_DROPPED: 1}),
        (b"R 07003102113463100417734", {Reason.QUERY_IGNORED: 1}),
        (b"RB", {}),
    ],
)
def test_records_other_than_those_of_known_controls_are_acknowledged_and_not_read(
    record: bytes, counts: dict[Reason, int]
) -> None:
    played = au_played(record)
    assert (played.findings, played.counts, played.sent) == ([], counts, [ACK])


def test_a_record_without_its_end_is_counted_after_30_s_or_at_the_end_of_the_connection() -> None:
    engine = AuEngine(CASE.port)
    engine.receive(b"\x02D", 0)
    assert engine.deadline == 30
    assert engine.expired(29.9) == []
    assert counted(engine.expired(30)) == [Reason.MESSAGE_UNFINISHED]
    assert engine.deadline is None
    assert play(AuEngine(CASE.port), [b"?\x02D\x02DB\x03"]).counts == {Reason.LITTER: 1, **REFUSED}
    assert play(AuEngine(CASE.port), [b"\x02D"]).counts == {Reason.MESSAGE_UNFINISHED: 1}


@pytest.mark.parametrize(("length", "reply"), [(4096, ACK), (4097, NAK)])
def test_a_record_has_at_most_4096_bytes(length: int, reply: bytes) -> None:
    assert au_played(b"D " + b"x" * (length - 2)).sent == [reply]


@pytest.mark.parametrize("kind", [None, [2, 1], [0], [0, 0]])
def test_columns_must_be_configured_and_valid(kind: list[int] | None) -> None:
    assert CASE.port.columns is not None
    columns = None if kind is None else msgspec.structs.replace(CASE.port.columns, type=kind)
    with pytest.raises(ValueError, match="columns"):
        AuEngine(msgspec.structs.replace(CASE.port, columns=columns))


@pytest.mark.parametrize(("decided_at", "replies"), [(2.9, ACK), (3.0, b"")])
def test_a_record_that_is_stored_after_the_analyzers_time_limit_is_answered_when_repeated(
    decided_at: float, replies: bytes
) -> None:
    engine = AuEngine(CASE.port)
    engine.receive(b"\x02" + CONTROL + b"\x03", 1)
    assert sent(engine.decided(Outcome.STORED, decided_at)) == replies
    again = engine.receive(b"\x02" + CONTROL + b"\x03", 6)
    assert (sent(again), counted(again)) == (ACK, [Reason.FRAME_REPEATED])


@pytest.mark.parametrize("copies", [2, 5])
def test_of_records_that_arrive_together_the_last_is_answered(copies: int) -> None:
    played = au_played(*[CONTROL] * copies)
    assert played.findings == [CREA, GLU]
    assert played.sent == [ACK]
