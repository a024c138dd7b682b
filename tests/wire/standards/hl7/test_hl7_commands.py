"""Commands to an instrument: their form, their repetition, and the matching of answers to commands."""

from __future__ import annotations

from typing import Any

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message
from hl7apy.validation import Validator

from tests.support.wire.hl7 import MSH, block, receiver
from tests.support.wire.instrument_cases import play
from wire.standards.engine import Action, Close, CommandEnded, Commander, Count, Deliver, Outcome, Send
from wire.standards.extract import Reason
from wire.standards.hl7 import Hl7Receiver

TESTS = {"TSH3": "tsh", "F|4^&~\\": "ft4"}
STRICT = VALIDATION_LEVEL.STRICT


def engine(**config: Any) -> Hl7Receiver:
    return receiver(tests=TESTS, **config)


def send(box: Hl7Receiver, number: int, verb: str = "send-inventory", now: float = 0.0) -> bytes:
    (action,) = box.command(number, verb, now)
    assert isinstance(action, Send)
    return action.data


def own_id(command: bytes) -> str:
    return command.split(b"|")[9].decode()


def answer(command: bytes, code: str = "AA") -> bytes:
    return block(MSH.format(kind="ACK^U06^ACK", id="900"), f"MSA|{code}|{own_id(command)}")


@pytest.mark.parametrize("verb", ["send-inventory", "data-upload"])
def test_commands_are_valid_messages_of_chapter_13(verb: str) -> None:
    text = send(engine(dialect={"equipment": "I400"}), 7, verb)[1:-2].decode()
    message = parse_message(text, validation_level=STRICT, find_groups=True)
    assert Validator.validate(message)
    assert message.equ.equ_1.to_er7() == "I400"
    if verb == "send-inventory":
        rows = [inv.inv_1.to_er7() for inv in message.children if inv.name == "INV"]
        assert rows == ["TSH3", "F\\F\\4\\S\\\\T\\\\R\\\\E\\"]


@pytest.mark.parametrize("outcome", [Outcome.STORED, Outcome.BUSY, Outcome.REFUSED])
def test_acknowledgements_are_valid_messages(outcome: Outcome) -> None:
    message = block(MSH.format(kind="ESU^U01^ESU_U01", id="4711"), "EQU|1|20310304123000|ID")
    (sent,) = play(receiver(), [message], lambda _: outcome).sent
    assert Validator.validate(parse_message(sent[1:-2].decode(), validation_level=STRICT))


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("AA", "done"), ("AE", "failed"), ("CE", "failed"), ("AR", "refused"), ("CR", "refused")],
)
def test_the_answer_ends_its_command(code: str, outcome: Any) -> None:
    box = engine()
    command = send(box, 7)
    assert box.receive(answer(command, code), 1.0) == [CommandEnded(7, outcome)]
    assert box.expired(29.0) == [] and box.closed(30.0) == []


def test_an_answer_ends_only_the_command_that_it_names() -> None:
    box = engine()
    first, second = send(box, 1), send(box, 2, "data-upload")
    assert own_id(first) != own_id(second)
    assert box.receive(answer(second), 1.0) == [CommandEnded(2, "done")]
    assert box.receive(answer(second), 2.0) == [Count(Reason.MESSAGE_IGNORED)]
    assert box.receive(answer(first, "AE"), 3.0) == [CommandEnded(1, "failed")]


def test_an_unanswered_command_is_sent_three_times_with_one_id_and_ends_as_unknown() -> None:
    box = engine()
    command = send(box, 7)
    repeated: list[Action] = []
    for now in (30.0, 60.0):
        assert box.deadline == now
        assert box.expired(now - 1) == []
        repeated += box.expired(now)
    assert repeated == [Send(command)] * 2
    assert box.expired(90.0) == [CommandEnded(7, "unknown")]
    assert box.deadline is None


def test_a_late_answer_is_counted_and_answers_no_other_command() -> None:
    box = engine()
    late = send(box, 1)
    for now in (30.0, 60.0, 90.0):
        box.expired(now)
    second = send(box, 2, now=91.0)
    assert box.receive(answer(late), 92.0) == [Count(Reason.MESSAGE_IGNORED)]
    assert box.receive(answer(second), 93.0) == [CommandEnded(2, "done")]


def test_a_commit_accept_stops_the_repetition_and_is_done_if_nothing_follows() -> None:
    box = engine()
    first, second = send(box, 1), send(box, 2)
    assert box.receive(answer(first, "CA") + answer(second, "CA"), 1.0) == []
    assert box.receive(answer(first, "AE"), 2.0) == [CommandEnded(1, "failed")]
    assert box.expired(30.0) == [CommandEnded(2, "done")]


def test_unanswered_commands_end_with_the_connection() -> None:
    box = engine()
    send(box, 1)
    assert box.closed(5.0) == [CommandEnded(1, "unknown")]


def test_silence_ends_the_command_and_the_connection_if_configured() -> None:
    box = engine(dialect={"silence-s": 90})
    send(box, 1, now=10.0)
    actions = [action for now in (40.0, 70.0, 100.0) for action in box.expired(now)]
    assert actions[-2:] == [CommandEnded(1, "unknown"), Close()]


@pytest.mark.parametrize("verb", ["help-file", "test-menu", "assay-configuration", "EX", ""])
def test_commands_that_the_standard_does_not_define_are_refused_and_not_sent(verb: str) -> None:
    assert engine().command(3, verb, 0.0) == [CommandEnded(3, "refused")]
    assert receiver().command(3, "send-inventory", 0.0) == [CommandEnded(3, "refused")]  # no test codes


@pytest.mark.parametrize("msa", ["MSA|AA|", "MSA|AA|1", "MSA", "MSA|XX|{}", "NTE|1||AA", "MSA||{}"])
def test_other_answers_are_counted(msa: str) -> None:
    box = engine()
    command = send(box, 1)
    reply = block(MSH.format(kind="ACK", id="1"), msa.format(own_id(command)))
    assert box.receive(reply, 1.0) == [Count(Reason.MESSAGE_IGNORED)]
    assert box.receive(answer(command), 2.0) == [CommandEnded(1, "done")]


def test_a_command_can_be_sent_and_answered_while_findings_are_undecided() -> None:
    box = engine()
    status = block(MSH.format(kind="ESU^U01", id="1"), "EQU|1||ID")
    (delivered,) = box.receive(status, 0.0)
    assert isinstance(delivered, Deliver)
    command = send(box, 4)
    assert len(box.decided(Outcome.STORED, 0.0)) == 1
    assert box.receive(answer(command), 1.0) == [CommandEnded(4, "done")]


def test_the_receiver_is_a_commander() -> None:
    assert isinstance(engine(), Commander)
