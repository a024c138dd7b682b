"""Sessions between an instrument and a host: acknowledgement, repetition, contention and time limits."""

import pytest

from tests.support.wire.lines import Line, MessageKeeper, counted, sent, stored
from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Deliver, Outcome
from wire.standards.extract import Reason
from wire.standards.lis1.endpoint import Lis1Endpoint
from wire.standards.lis1.frames import ACK, ENQ, EOT, NAK, FrameStyle, frames_of

MESSAGE = b"H|\\^&\rP|1\rO|1|NORM2\rL|1|N\r"
FRAMES = list(frames_of(MESSAGE, FrameStyle()))


@pytest.fixture
def line(host: Lis1Endpoint) -> Line:
    return Line(Lis1Endpoint(MessageKeeper(), AstmDialect(), instrument=True), host)


def test_a_session_is_acknowledged_frame_by_frame(line: Line, messages: MessageKeeper) -> None:
    line.carry(line.instrument.send(FRAMES, 0), "instrument")
    assert [data for _, data in line.sent_by("instrument")] == [ENQ, *FRAMES, EOT]
    assert [data for _, data in line.sent_by("host")] == [ACK] * 5
    assert messages.messages == [MESSAGE]
    assert line.instrument.waiting == 0
    assert line.instrument.deadline is line.host.deadline is None


def test_several_messages_of_a_session_are_delivered_one_by_one(line: Line, messages: MessageKeeper) -> None:
    line.carry(line.instrument.send(frames_of(MESSAGE * 3, FrameStyle()), 0), "instrument")
    assert messages.messages == [MESSAGE] * 3


def test_the_end_of_a_message_is_acknowledged_only_when_it_is_stored(host: Lis1Endpoint) -> None:
    for frame in (ENQ, *FRAMES[:-1]):
        assert sent(host.receive(frame, 0)) == ACK
    delivered = host.receive(FRAMES[-1] + EOT + ENQ, 1)
    assert isinstance(delivered[-1], Deliver)
    assert sent(delivered) == b""
    assert host.deadline is None
    assert sent(host.decided(Outcome.STORED, 9)) == ACK + ACK


def test_a_message_that_cannot_be_stored_is_refused_until_it_can(line: Line, messages: MessageKeeper) -> None:
    line.outcomes = [Outcome.BUSY] * 5
    line.carry(line.instrument.send(FRAMES, 0), "instrument")
    assert line.counts == [Reason.NOT_STORED] * 5  # repetitions are not counted
    assert [data for _, data in line.sent_by("host")] == [ACK] * 4 + [NAK] * 5 + [ACK]
    assert messages.messages == [MESSAGE]
    assert line.instrument.waiting == 0


def test_a_message_that_is_never_stored_is_unfinished_at_eot(line: Line, messages: MessageKeeper) -> None:
    line.outcomes = [Outcome.BUSY] * 6
    line.carry(line.instrument.send(FRAMES, 0), "instrument")
    assert line.counts == [Reason.NOT_STORED] * 6 + [Reason.MESSAGE_UNFINISHED]
    assert line.instrument.waiting == 1
    line.run(20)
    assert [when for when, data in line.sent_by("instrument") if data == ENQ] == [0, 10]
    assert line.instrument.waiting == 0


def test_another_frame_than_the_undecided_one_is_refused(host: Lis1Endpoint) -> None:
    host.receive(b"".join([ENQ, *FRAMES]), 0)
    assert sent(host.decided(Outcome.BUSY, 0)) == NAK
    other = list(frames_of(MESSAGE.replace(b"L|1|N", b"L|1|F"), FrameStyle()))[-1]
    assert sent(host.receive(other, 1)) == NAK
    assert sent(stored(host, host.receive(FRAMES[-1], 2), 2)) == ACK


def test_a_message_that_is_refused_permanently_is_acknowledged_and_counted(host: Lis1Endpoint) -> None:
    host.receive(b"".join([ENQ, *FRAMES]), 0)
    actions = host.decided(Outcome.REFUSED, 0)
    assert (sent(actions), counted(actions)) == (ACK, [Reason.MESSAGE_REFUSED])


@pytest.mark.parametrize("position", range(4))
def test_a_repeated_frame_is_acknowledged_and_read_once(
    host: Lis1Endpoint, messages: MessageKeeper, position: int
) -> None:
    frames = [*FRAMES[: position + 1], *[FRAMES[position]] * 7, *FRAMES[position + 1 :]]
    actions = stored(host, host.receive(b"".join([ENQ, *frames, EOT]), 0), 0)
    assert sent(actions) == ACK * 12
    assert counted(actions) == [Reason.FRAME_REPEATED] * 7
    assert messages.messages == [MESSAGE]


def test_the_number_of_the_last_frame_with_other_text_is_refused(host: Lis1Endpoint) -> None:
    host.receive(b"".join([ENQ, *FRAMES[:2]]), 0)
    other = list(frames_of(b"P|1\rP|2\r", FrameStyle(first=1)))[1]
    actions = host.receive(other, 0)
    assert (sent(actions), counted(actions)) == (NAK, [Reason.FRAME_REFUSED])


@pytest.mark.parametrize(("first", "reply"), [(0, ACK), (1, ACK), (2, NAK), (7, NAK)])
def test_the_first_frame_is_numbered_1_or_0(host: Lis1Endpoint, first: int, reply: bytes) -> None:
    host.receive(ENQ, 0)
    assert sent(host.receive(next(frames_of(MESSAGE, FrameStyle(first=first))), 0)) == reply


def test_constant_numbers_are_accepted_only_if_configured(messages: MessageKeeper) -> None:
    session = b"".join([ENQ, *frames_of(MESSAGE, FrameStyle(counted=False)), EOT])
    strict, liberal = (
        Lis1Endpoint(messages, AstmDialect(frame_numbers=numbers)) for numbers in ("counted", "any")
    )
    assert sent(strict.receive(session, 0)) == ACK * 2 + NAK * 3
    assert sent(stored(liberal, liberal.receive(session, 0), 0)) == ACK * 5


def test_enq_in_a_session_begins_a_new_one(host: Lis1Endpoint, messages: MessageKeeper) -> None:
    actions = host.receive(b"".join([ENQ, *FRAMES[:3], FRAMES[3][:4], ENQ, *FRAMES, EOT]), 0)
    actions = stored(host, actions, 0)
    assert sent(actions) == ACK * 9
    assert counted(actions) == [Reason.MESSAGE_UNFINISHED]
    assert messages.messages == [MESSAGE]


def test_a_frame_that_is_begun_again_is_refused_once_and_read_once(
    host: Lis1Endpoint, messages: MessageKeeper
) -> None:
    actions = stored(host, host.receive(b"".join([ENQ, FRAMES[0][:4], *FRAMES, EOT]), 0), 0)
    assert sent(actions) == ACK * 5
    assert counted(actions) == [Reason.FRAME_REFUSED]
    assert messages.messages == [MESSAGE]


def test_frames_outside_a_session_are_counted_and_ignored(
    host: Lis1Endpoint, messages: MessageKeeper
) -> None:
    actions = host.receive(FRAMES[0] + EOT + NAK, 0)
    assert (sent(actions), counted(actions)) == (b"", [Reason.LITTER])


@pytest.mark.parametrize("end", [b"", b"\r"])
def test_a_frame_without_its_line_end_is_answered_a_quarter_of_a_second_later(
    host: Lis1Endpoint, end: bytes
) -> None:
    host.receive(ENQ, 0)
    assert host.receive(FRAMES[0][:-2] + end, 10) == []
    assert host.deadline == 10.25
    assert host.expired(10.2) == []
    assert sent(host.expired(10.25)) == ACK
    assert host.receive(b"\r\n"[len(end) :], 10.3) == []
    assert sent(host.receive(FRAMES[1], 11)) == ACK


def test_a_receiver_waits_30_s_from_the_last_byte(host: Lis1Endpoint) -> None:
    host.receive(ENQ + FRAMES[0], 0)
    host.receive(FRAMES[1][:3], 29)
    assert host.deadline == 59
    assert host.expired(58.9) == []
    assert counted(host.expired(59)) == [Reason.MESSAGE_UNFINISHED]
    assert host.deadline is None
    assert sent(host.receive(b"".join([ENQ, FRAMES[0]]), 60)) == ACK * 2


def test_a_message_without_its_end_is_counted_when_the_connection_closes(host: Lis1Endpoint) -> None:
    host.receive(ENQ + FRAMES[0][:5], 0)
    assert counted(host.closed(1)) == [Reason.MESSAGE_UNFINISHED]
    assert host.closed(2) == []


def test_an_unanswered_frame_ends_the_session_after_15_s_and_is_sent_again_later(
    line: Line, messages: MessageKeeper
) -> None:
    line.carry(line.instrument.send(FRAMES, 0), "instrument")
    line.lose = 2  # ACK of ENQ, ACK of the first frame
    line.carry(line.instrument.send(FRAMES, 0), "instrument")
    line.run(100)
    started = [(when, data) for when, data in line.sent_by("instrument") if data in (ENQ, EOT)]
    assert started == [(0, ENQ), (0, EOT), (0, ENQ), (15, EOT), (25, ENQ), (40, EOT), (50, ENQ), (50, EOT)]
    assert messages.messages == [MESSAGE] * 2
    assert line.instrument.waiting == 0


def test_a_refused_frame_is_sent_six_times_and_the_session_again_after_10_s(line: Line) -> None:
    instrument = line.instrument
    instrument.send(FRAMES, 0)
    assert sent(instrument.receive(ACK, 0)) == FRAMES[0]
    for _ in range(5):
        assert sent(instrument.receive(NAK, 1)) == FRAMES[0]
    assert sent(instrument.receive(NAK, 1)) == EOT
    assert instrument.deadline == 11
    assert sent(instrument.expired(11)) == ENQ


def test_enq_refused_is_sent_again_after_10_s(line: Line) -> None:
    line.instrument.send(FRAMES, 0)
    assert line.instrument.receive(NAK, 1) == []
    assert line.instrument.expired(10.9) == []
    assert sent(line.instrument.expired(11)) == ENQ


def test_another_byte_than_ack_or_eot_means_nak_and_eot_means_ack(line: Line) -> None:
    instrument = line.instrument
    instrument.send(FRAMES, 0)
    instrument.receive(ACK, 0)
    assert sent(instrument.receive(b"?", 0)) == FRAMES[0]
    assert sent(instrument.receive(EOT, 0)) == FRAMES[1]


def test_in_contention_the_instrument_repeats_after_1_s_and_the_host_after_20_s(line: Line) -> None:
    bids = line.instrument.send(FRAMES, 0), line.host.send(FRAMES, 0)
    assert [sent(bid) for bid in bids] == [ENQ, ENQ]
    line.carry(bids[1], "host")
    line.host.receive(ENQ, 0)
    line.run(30)
    enquiries = [(when, sender) for when, sender, data in line.log if data == ENQ]
    assert enquiries == [(0, "host"), (1, "instrument"), (20, "host")]
    assert line.instrument.waiting == line.host.waiting == 0


def test_a_host_that_wants_to_send_waits_for_the_end_of_the_instruments_session(host: Lis1Endpoint) -> None:
    host.receive(ENQ, 0)
    assert host.send(FRAMES, 0) == []
    assert sent(stored(host, host.receive(b"".join([*FRAMES, EOT]), 1), 1)) == ACK * 4 + ENQ
