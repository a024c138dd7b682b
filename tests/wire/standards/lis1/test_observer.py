"""Observation of the line between an instrument and the laboratory's host."""

import pytest

from tests.support.wire.lines import MessageKeeper, counted
from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Action, Deliver, Outcome, Send
from wire.standards.extract import Reason
from wire.standards.lis1.frames import ACK, ENQ, EOT, NAK, FrameStyle, frames_of
from wire.standards.lis1.observer import Lis1Observer

MESSAGE = b"H|\\^&\rP|1\rO|1|NORM2\rL|1|N\r"
FRAMES = list(frames_of(MESSAGE, FrameStyle()))
REFUSED, REPEATED, UNFINISHED = Reason.FRAME_REFUSED, Reason.FRAME_REPEATED, Reason.MESSAGE_UNFINISHED


class Tap:
    """An observer that is fed with turns: bytes of the instrument, bytes of the host, and so on."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.kept = MessageKeeper()
        self.observer = Lis1Observer(self.kept, AstmDialect())
        self.actions: list[Action] = []
        self.outcomes = list(outcomes)
        self.delivered = 0

    def receive(self, *turns: bytes) -> None:
        for position, data in enumerate(turns):
            from_host = position % 2 == 1
            actions = (self.observer.from_host if from_host else self.observer.from_instrument)(data, 0)
            while self._note(actions):
                self.delivered += 1
                actions = self.observer.decided(self.outcomes.pop(0) if self.outcomes else Outcome.STORED, 0)

    def _note(self, actions: list[Action]) -> bool:
        self.actions += actions
        return any(isinstance(action, Deliver) for action in actions)

    def finish(self) -> list[Reason]:
        """Close the connection; return all counts. An observer sends nothing."""
        self.actions += self.observer.closed(0)
        assert not any(isinstance(action, Send) for action in self.actions)
        return counted(self.actions)


def turns(*frames: bytes) -> list[bytes]:
    return [ENQ, ACK, *(turn for frame in frames for turn in (frame, ACK)), EOT]


def test_a_message_is_delivered_when_the_host_acknowledges_its_last_frame() -> None:
    tap = Tap()
    *before, last, answer, _ = turns(*FRAMES)
    tap.receive(*before, last)
    assert tap.delivered == 0
    tap.receive(b"", answer, EOT)
    assert (tap.delivered, tap.kept.messages, tap.finish()) == (1, [MESSAGE], [])


def test_sessions_follow_each_other() -> None:
    tap = Tap()
    tap.receive(*turns(*FRAMES), b"", *turns(*frames_of(MESSAGE * 2, FrameStyle())))
    assert tap.kept.messages == [MESSAGE] * 3


def test_bytes_may_arrive_one_by_one() -> None:
    tap = Tap()
    for position, turn in enumerate(turns(*FRAMES)):
        for byte in turn:
            tap.receive(*[b""] * (position % 2), bytes([byte]))
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [])


def test_an_instrument_may_send_without_waiting_for_answers() -> None:
    tap = Tap()
    tap.receive(b"".join([ENQ, *FRAMES, EOT]), ACK * 3)
    assert tap.delivered == 0
    tap.receive(b"", ACK * 2)
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [])


def test_a_frame_that_the_host_refuses_is_not_read() -> None:
    tap = Tap()
    tap.receive(ENQ, ACK, FRAMES[0], NAK, FRAMES[0], ACK, *turns(*FRAMES[1:])[2:])
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [REFUSED])


def test_a_last_frame_that_the_host_refuses_delivers_nothing() -> None:
    tap = Tap()
    tap.receive(*turns(*FRAMES)[:-2], NAK, EOT)
    assert (tap.delivered, tap.finish()) == (0, [REFUSED, UNFINISHED])


def test_a_repeated_frame_is_read_once() -> None:
    tap = Tap()
    tap.receive(*turns(FRAMES[0], FRAMES[0], *FRAMES[1:], FRAMES[3]))
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [REPEATED, REPEATED])


@pytest.mark.parametrize("answers", [1, 2])
def test_a_frame_repeated_before_the_answer_is_read_once(answers: int) -> None:
    tap = Tap()
    tap.receive(ENQ, ACK, FRAMES[0] * 2, ACK * answers, *turns(*FRAMES[1:])[2:])
    assert tap.kept.messages == [MESSAGE]


@pytest.mark.parametrize("end", [b"", b"\r"])
def test_the_answer_of_the_host_ends_a_frame_without_line_end(end: bytes) -> None:
    tap = Tap()
    tap.receive(*turns(*(frame[:-2] + end for frame in FRAMES)))
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [])


@pytest.mark.parametrize("missed", [FRAMES[0], FRAMES[1][:5] + b"?" + FRAMES[1][6:]])
def test_a_message_of_which_a_frame_was_missed_is_not_delivered(missed: bytes) -> None:
    tap = Tap()
    frames = [missed, *FRAMES[2:]] if missed == FRAMES[0] else [FRAMES[0], missed, *FRAMES[2:]]
    tap.receive(*turns(*frames), b"", *turns(*FRAMES))
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [REFUSED, UNFINISHED])


def test_a_session_that_the_host_does_not_accept_is_not_read() -> None:
    tap = Tap()
    tap.receive(ENQ, NAK, ENQ, b"", *turns(*FRAMES))
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [])


def test_a_new_enquiry_ends_a_session_without_its_end() -> None:
    tap = Tap()
    tap.receive(*turns(*FRAMES[:2])[:-1], b"", b"", *turns(*FRAMES))
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [UNFINISHED])


def test_messages_of_the_host_are_not_read() -> None:
    tap = Tap()
    orders = [b"", ENQ, ACK, *[turn for frame in FRAMES for turn in (frame, ACK)], EOT]
    tap.receive(*orders)
    assert tap.kept.messages == []
    tap.receive(*turns(*FRAMES))
    assert (tap.kept.messages, tap.finish()) == ([MESSAGE], [])


def test_after_contention_the_instrument_bids_again() -> None:
    tap = Tap()
    tap.receive(ENQ, ENQ, *turns(*FRAMES))
    tap.receive(b"", ENQ, ENQ, b"", *turns(*FRAMES))
    assert tap.kept.messages == [MESSAGE] * 2


def test_a_message_that_is_not_stored_is_counted() -> None:
    tap = Tap(Outcome.BUSY, Outcome.REFUSED)
    tap.receive(*turns(*frames_of(MESSAGE * 3, FrameStyle())))
    assert tap.finish() == [Reason.NOT_STORED, Reason.MESSAGE_REFUSED]


def test_an_instrument_that_sends_without_end_and_without_answers_is_not_kept() -> None:
    tap = Tap()
    tap.receive(ENQ + b"".join(frames_of(b"R" * 200_000, FrameStyle())), b"")
    assert REFUSED in tap.finish()
    assert tap.kept.messages == []
