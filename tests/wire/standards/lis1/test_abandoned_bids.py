"""Bids and frames that their sender has abandoned when they arrive, as TCP delivers them after an outage.

The sender takes an answer to one of them for the answer to its next ENQ. If the next ENQ is answered as well, the
sender has one answer too many, and takes the acknowledgement of the last frame but one for that of the last.
"""

import pytest

from tests.support.wire.lines import Line, MessageKeeper, counted, sent, stored
from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Deliver, Outcome
from wire.standards.extract import Reason
from wire.standards.lis1.endpoint import Lis1Endpoint
from wire.standards.lis1.frames import ACK, ENQ, EOT, NAK, FrameStyle, frames_of

MESSAGE = b"H|\\^&\rP|1\rO|1|NORM2\rL|1|N\r"
FRAMES = list(frames_of(MESSAGE, FrameStyle()))
BIDS = (ENQ + EOT) * 3 + ENQ


def in_two_pieces(host: Lis1Endpoint, data: bytes, cut: int, now: float) -> bytes:
    """Return the answers to bytes that arrive in two pieces, as TCP divides them."""
    return sent(host.receive(data[:cut], now)) + sent(host.receive(data[cut:], now + 0.3))


@pytest.mark.parametrize("cut", range(len(BIDS)))
def test_of_bids_that_arrive_together_one_is_answered(host: Lis1Endpoint, cut: int) -> None:
    assert in_two_pieces(host, BIDS, cut, 100) == ACK
    assert sent(host.receive(FRAMES[0], 101)) == ACK


@pytest.mark.parametrize("cut", range(len(BIDS)))
def test_an_acknowledged_frame_whose_transfer_was_abandoned_answers_the_next_bid(
    host: Lis1Endpoint, cut: int
) -> None:
    for data in (ENQ, FRAMES[0]):
        assert sent(host.receive(data, 10)) == ACK
    assert in_two_pieces(host, FRAMES[1] + EOT + BIDS, cut + len(FRAMES[1]), 100) == ACK
    assert sent(host.receive(FRAMES[0], 101)) == ACK


def test_an_acknowledged_message_answers_the_next_bid_if_bids_after_it_were_abandoned(
    host: Lis1Endpoint, messages: MessageKeeper
) -> None:
    for data in (ENQ, *FRAMES[:3]):
        assert sent(host.receive(data, 10)) == ACK
    assert sent(stored(host, host.receive(FRAMES[3] + EOT + BIDS, 100), 100)) == ACK
    assert messages.messages == [MESSAGE]
    assert sent(host.receive(FRAMES[0], 101)) == ACK


@pytest.mark.parametrize("cut", range(len(BIDS)))
def test_after_an_outage_the_last_frame_is_sent_until_it_is_stored(
    host: Lis1Endpoint, messages: MessageKeeper, cut: int
) -> None:
    instrument = Lis1Endpoint(MessageKeeper(), AstmDialect(), instrument=True)
    delayed = sent(instrument.send(FRAMES, 0))
    while len(delayed) < len(BIDS) and (deadline := instrument.deadline) is not None:
        delayed += sent(instrument.expired(deadline))
    assert delayed == BIDS
    line = Line(instrument, host, now=80.0, outcomes=[Outcome.BUSY, Outcome.BUSY])
    answers = host.receive(delayed[:cut], 80) + host.receive(delayed[cut:], 80.3)
    line.carry(answers, "host")
    assert line.counts == [Reason.NOT_STORED] * 2
    assert [data for _, data in line.sent_by("host") if data != ACK] == [NAK, NAK]
    assert messages.messages == [MESSAGE]
    assert instrument.waiting == 0


def test_a_bid_is_answered_again_two_seconds_after_the_answer_to_an_abandoned_one(host: Lis1Endpoint) -> None:
    assert sent(host.receive(ENQ, 10)) == ACK
    assert sent(host.receive(EOT + ENQ, 11.9)) == b""
    assert sent(host.receive(EOT + ENQ, 12)) == ACK


def test_after_the_session_that_follows_abandoned_bids_each_bid_is_answered(host: Lis1Endpoint) -> None:
    for bids in (ENQ + EOT + ENQ, ENQ):
        session = b"".join([bids, *FRAMES, EOT])
        assert sent(stored(host, host.receive(session[:1], 0) + host.receive(session[1:], 0), 0)) == ACK * 5


def test_a_bid_that_is_abandoned_after_a_complete_session_answers_the_next(host: Lis1Endpoint) -> None:
    host.receive(b"".join([ENQ, *FRAMES, EOT]), 0)
    assert sent(stored(host, host.decided(Outcome.STORED, 0), 0)) == ACK
    assert in_two_pieces(host, ENQ + EOT + ENQ, 1, 100) == ACK


def test_a_bid_is_answered_at_once_after_a_complete_session_and_after_a_bid_in_a_session(
    host: Lis1Endpoint,
) -> None:
    session = b"".join([ENQ, *FRAMES, EOT])
    assert sent(stored(host, host.receive(session * 2, 0), 0)) == ACK * 10
    assert sent(host.receive(ENQ + ENQ, 0)) == ACK * 2


@pytest.mark.parametrize("outcome", Outcome)
def test_a_frame_that_is_stored_after_the_senders_time_limit_is_not_answered(
    host: Lis1Endpoint, messages: MessageKeeper, outcome: Outcome
) -> None:
    host.receive(b"".join([ENQ, *FRAMES]), 10)
    counts = {
        Outcome.STORED: [],
        Outcome.BUSY: [Reason.NOT_STORED],
        Outcome.REFUSED: [Reason.MESSAGE_REFUSED],
    }
    late = host.decided(outcome, 25)
    assert (sent(late), counted(late)) == (b"", counts[outcome])
    assert sent(stored(host, host.receive(b"".join([EOT, ENQ, *FRAMES]), 26), 26)) == ACK * 5
    assert messages.messages == [MESSAGE] * 2


def test_the_senders_time_limit_begins_again_with_each_repetition_of_the_frame(host: Lis1Endpoint) -> None:
    host.receive(b"".join([ENQ, *FRAMES]), 10)
    assert sent(host.decided(Outcome.BUSY, 24.9)) == NAK
    assert isinstance(host.receive(FRAMES[-1], 25)[-1], Deliver)
    assert sent(host.decided(Outcome.STORED, 39.9)) == ACK
