"""Observation of both directions: which messages are delivered, and when."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.wire.hl7 import MSH, block, status_message
from tests.support.wire.instrument_cases import (
    InstrumentCase,
    Played,
    instrument_cases,
    note,
    port_of,
)
from wire.standards.engine import Action, Count, Deliver, Outcome
from wire.standards.extract import Reason
from wire.standards.hl7 import Hl7Observer


def observer(**config: Any) -> Hl7Observer:
    return Hl7Observer(port_of({"timezone": "+01:00", **config}))


def host(message_id: str, code: str = "AA", kind: str = "ACK^U01") -> bytes:
    return block(MSH.format(kind=kind, id="77"), f"MSA|{code}|{message_id}")


def states(actions: list[Action]) -> list[str]:
    return [finding.fields[0] for a in actions if isinstance(a, Deliver) for finding in a.extract.findings]


@pytest.mark.parametrize("code", ["AA", "CA"])
def test_a_message_is_delivered_when_the_host_has_accepted_it(code: str) -> None:
    listener = observer()
    assert listener.from_instrument(status_message("5"), 0.0) == []
    assert listener.from_host(host("4", code), 0.0) == []
    assert states(listener.from_host(host("5", code), 0.0)) == ["idle"]
    assert listener.decided(Outcome.STORED, 0.0) == []
    assert listener.from_host(host("5", code), 0.0) == []  # once


@pytest.mark.parametrize("code", ["AE", "AR", "CE", "CR"])
def test_a_message_that_the_host_rejects_is_not_delivered(code: str) -> None:
    listener = observer()
    listener.from_instrument(status_message("5"), 0.0)
    assert listener.from_host(host("5", code) + host("5"), 0.0) == []
    assert listener.closed(0.0) == []


@pytest.mark.parametrize("case", instrument_cases("hl7-mllp"), ids=lambda case: case.name)
def test_the_reports_are_those_of_a_receiver_at_every_split_point(case: InstrumentCase) -> None:
    ids = [
        step.split(" ", 2)[2].rpartition(" ")[0].strip('"') for step in case.script if step.startswith("ack")
    ]
    answers = b"".join(host(message_id) for message_id in ids)
    for split in (*range(0, len(case.data), 13), len(case.data)):
        listener, played = Hl7Observer(case.port), Played()
        actions = listener.from_instrument(case.data[:split], 0.0) + listener.from_instrument(
            case.data[split:], 0.0
        )
        actions += listener.from_host(answers[: split % len(answers)], 0.0)
        while note(played, actions):
            actions = listener.decided(Outcome.STORED, 0.0)
        actions = listener.from_host(answers[split % len(answers) :], 0.0)
        while note(played, actions):
            actions = listener.decided(Outcome.STORED, 0.0)
        assert (played.as_reports(), played.audit()) == (case.reports, case.audit)
        assert not played.sent


def test_answers_read_together_are_delivered_one_after_the_other() -> None:
    listener = observer()
    listener.from_instrument(status_message("1", "ID") + status_message("2", "OP"), 0.0)
    assert states(listener.from_host(host("2") + host("1"), 0.0)) == ["running"]
    assert states(listener.decided(Outcome.STORED, 0.0)) == ["idle"]


def test_a_repetition_before_the_answer_is_one_message_and_other_content_another() -> None:
    listener = observer()
    for state in ("ID", "ID", "OP"):
        listener.from_instrument(status_message("1", state), 0.0)
    assert states(listener.from_host(host("1") * 3, 0.0)) == ["idle"]
    assert states(listener.decided(Outcome.STORED, 0.0)) == ["running"]
    assert listener.decided(Outcome.STORED, 0.0) == []


def test_unanswered_messages_are_bounded_and_counted() -> None:
    listener = observer()
    actions = [a for n in range(20) for a in listener.from_instrument(status_message(str(n)), 0.0)]
    assert actions == [Count(Reason.NOT_STORED)] * 4
    assert listener.closed(0.0) == [Count(Reason.NOT_STORED, 16)]


@pytest.mark.parametrize("outcome", [Outcome.BUSY, Outcome.REFUSED])
def test_a_message_that_cannot_be_stored_is_counted(outcome: Outcome) -> None:
    listener = observer()
    listener.from_instrument(status_message("1"), 0.0)
    listener.from_host(host("1"), 0.0)
    assert listener.decided(outcome, 0.0) == [Count(Reason.NOT_STORED)]


def test_queries_and_orders_of_others_yield_counts_only() -> None:
    listener = observer()
    query = block(MSH.format(kind="QBP^Q11", id="1"), "QPD|WOS|1|4711")
    assert listener.from_instrument(query, 0.0) == [Count(Reason.QUERY_IGNORED)]
    order = block(MSH.format(kind="OML^O33", id="2"), "PID|1||4711||Any^Name", "SPM|1|4711")
    assert listener.from_host(order + b"garbage" + block("no HL7") + block("MSH|^~\\&|\rbad line"), 0.0) == []
    assert listener.from_instrument(block(MSH.format(kind="ORL^O34", id="3"), "MSA|AA|2"), 0.0) == []
    assert listener.from_instrument(block("no HL7"), 0.0) == [Count(Reason.MESSAGE_REFUSED)]


def test_an_observed_connection_is_not_closed_for_silence() -> None:
    listener = observer(dialect={"silence-s": 90})
    listener.from_host(b"x", 10.0)
    assert listener.from_host(b"x", 1e6) == []
    listener.from_instrument(b"\x0bMSH", 100.0)
    assert listener.closed(100.0) == [Count(Reason.MESSAGE_UNFINISHED)]
