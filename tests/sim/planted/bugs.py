"""Planted bugs: small patches of the production code, each of which a lab must detect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

import agents.box.intake.collector
import agents.box.intake.intake
import agents.box.start
import agents.box.uplink.forwarder
import agents.box.uplink.stream
import datacenter.store.batches.batch
from agents.box.buffer import Buffer
from agents.box.commands import CommandDispatcher
from agents.box.health.audit import encode_gap
from agents.box.intake.intake import Intake
from agents.box.uplink.batching import SendScheduler
from agents.box.uplink.stream import Stream
from agents.instrument.agent import InstrumentAgent
from agents.instrument.command_runner import CommandRunner
from agents.instrument.report_queue import ReportQueue
from agents.spool import Priority, Spool
from datacenter.store.batches.rows import RecordRow, make_rows
from datacenter.store.store import Store
from hal.emul.disk import EmulDisk
from sim.worlds.virtual.datacenter import VirtualDataCenter
from wire.http.connection import Response
from wire.messages import Alert, BatchReply, Entry, Inventory, MessageError, Record, Status, encode

Patch = pytest.MonkeyPatch
PLANTED: dict[str, tuple[str, str, Callable[[Patch], None]]] = {}
"""The lab, the expectation that must fail, and the patch, by name of the bug."""


def planted(lab: str, expectation: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register a bug."""

    def register(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        PLANTED[plant.__name__] = (lab, expectation, plant)
        return plant

    return register


def _change_entries(patch: Patch, change: Callable[[Entry], Entry]) -> None:
    """Let the box change each entry before it stores it."""

    def changing(message: Any) -> bytes:
        return encode(change(message) if isinstance(message, Entry) else message)

    patch.setattr(agents.box.intake.intake, "encode", changing)


def _choose_new(patch: Patch, choose: Callable[[list[Any]], list[Any]]) -> None:
    """Let the box store only some of the new reports of a request, and acknowledge all of them."""
    original = agents.box.intake.intake._new
    patch.setattr(agents.box.intake.intake, "_new", lambda *arguments: choose(original(*arguments)))


# -- the box accepts reports


@planted("crash", "lost")
def acknowledges_before_the_append(patch: Patch) -> None:
    original, tasks = Buffer.append_all, set()

    def early(self: Buffer, priorities: Any, payloads: Any) -> asyncio.Future[range]:
        tasks.add(original(self, priorities, payloads))
        done: asyncio.Future[range] = asyncio.get_running_loop().create_future()
        done.set_result(range(len(payloads)))
        return done

    patch.setattr(Buffer, "append_all", early)


@planted("crash", "lost")
def skips_the_flush(patch: Patch) -> None:
    patch.setattr(EmulDisk, "commit", lambda self, name, offset, data: self.write(name, offset, data))


@planted("crash", "lost")
def forgets_waiting_records_at_a_restart(patch: Patch) -> None:
    original = Spool.open.__func__  # type: ignore[attr-defined]

    def forgetting(cls: type[Spool], *arguments: Any, **more: Any) -> Spool:
        spool: Spool = original(cls, *arguments, **more)
        if spool.status().next_seq > 1:
            spool.ack(Priority.ROUTINE, spool.status().next_seq - 1)
        return spool

    patch.setattr(Spool, "open", classmethod(forgetting))


@planted("errors", "lost")
def keeps_all_but_the_last_report_of_a_request(patch: Patch) -> None:
    _choose_new(patch, lambda new: new[:-1] if len(new) > 1 else new)


@planted("errors", "lost")
def mistakes_an_inventory_for_a_repetition(patch: Patch) -> None:
    _choose_new(patch, lambda new: [item for item in new if not isinstance(item[1], Inventory)])


@planted("errors", "lost")
def forgets_every_fiftieth_report(patch: Patch) -> None:
    _choose_new(patch, lambda new: [item for item in new if item[1].number % 50])


@planted("errors", "altered")
def empties_each_status(patch: Patch) -> None:
    def emptied(entry: Entry) -> Entry:
        body = entry.body
        if not isinstance(body, Status):
            return entry
        return Entry(entry.instrument, entry.run, Status(body.number, body.at_ms, body.state, 0, {}))

    _change_entries(patch, emptied)


@planted("errors", "altered")
def stamps_reports_with_its_own_time(patch: Patch) -> None:
    def stamped(entry: Entry) -> Entry:
        body = entry.body
        if not isinstance(body, Status):
            return entry
        late = Status(body.number, body.at_ms + 1, body.state, body.samples, body.readings)
        return Entry(entry.instrument, entry.run, late)

    _change_entries(patch, stamped)


@planted("errors", "altered")
def swaps_two_instruments(patch: Patch) -> None:
    other = {"CHEM-0001": "HEMA-0002", "HEMA-0002": "CHEM-0001"}
    _change_entries(patch, lambda entry: Entry(other[entry.instrument], entry.run, entry.body))


@planted("errors", "altered")
def counts_runs_from_zero(patch: Patch) -> None:
    _change_entries(patch, lambda entry: Entry(entry.instrument, entry.run - 1, entry.body))


@planted("errors", "unacknowledged")
def refuses_every_inventory(patch: Patch) -> None:
    original = agents.box.intake.collector._with_priorities

    def refusing(reports: list[Any]) -> Any:
        if any(isinstance(report, Inventory) for report in reports):
            raise MessageError("an inventory")
        return original(reports)

    patch.setattr(agents.box.intake.collector, "_with_priorities", refusing)


@planted("errors", "unacknowledged")
def stops_answering_instruments(patch: Patch) -> None:
    original = Intake.keep

    async def stopping(self: Intake, *arguments: Any) -> None:
        if self.accepted > 200:
            await asyncio.sleep(3600)
        await original(self, *arguments)

    patch.setattr(Intake, "keep", stopping)


# -- the box forwards


@planted("errors", "undelivered")
def stops_forwarding(patch: Patch) -> None:
    original = Stream._send

    async def stopping(self: Stream) -> bool:
        if self._loop.time() > 300:
            await asyncio.sleep(3600)
        return await original(self)

    patch.setattr(Stream, "_send", stopping)


@planted("errors", "undelivered")
def never_connects_again(patch: Patch) -> None:
    patch.setattr(agents.box.uplink.forwarder.Forwarder, "_retry_delay", lambda *_: 1e6)


@planted("errors", "undelivered")
def never_moves_its_cursor(patch: Patch) -> None:
    patch.setattr(Spool, "ack", lambda *_: None)


@planted("errors", "undelivered")
def never_forwards_its_audit_records(patch: Patch) -> None:
    original = Stream._read

    async def ignoring(self: Stream, priority: Priority, batch: Any) -> int:
        return 0 if priority == Priority.AUDIT else await original(self, priority, batch)

    patch.setattr(Stream, "_read", ignoring)


@planted("errors", "lost")
def forgets_a_batch_when_it_is_sent(patch: Patch) -> None:
    original = Stream._post

    def forgetting(self: Stream, batch: Any) -> None:
        original(self, batch)
        for priority, records in batch.parts.items():
            self._buffer._spool.ack(priority, records[-1][0])

    patch.setattr(Stream, "_post", forgetting)


@planted("errors", "lost")
def mistakes_any_answer_for_a_success(patch: Patch) -> None:
    def accepting(sent: Any) -> BatchReply:
        response: Response = sent.answer.result()
        return BatchReply(0) if response.status != 200 else BatchReply(sent.records)

    original = agents.box.uplink.stream._parse_reply

    def accept_some(sent: Any, epoch: int, now_s: float) -> BatchReply:
        return original(sent, epoch, now_s) if sent.answer.exception() else accepting(sent)

    patch.setattr(agents.box.uplink.stream, "_parse_reply", accept_some)


@planted("alerts", "alert_latency_p99")
def treats_alerts_as_routine(patch: Patch) -> None:
    patch.setitem(agents.box.intake.intake.PRIORITIES, Alert, Priority.ROUTINE)


@planted("alerts", "alert_latency_p99")
def sends_alerts_only_with_routine_reports(patch: Patch) -> None:
    original = SendScheduler.choose

    def choosing(self: Any, now: float) -> tuple[bool, bool]:
        return original(self, now) if now >= self.routine_due_at else (False, False)

    patch.setattr(SendScheduler, "choose", choosing)


# -- gap records


@planted("rot", "lost")
def never_sends_a_gap_record(patch: Patch) -> None:
    patch.setattr(
        agents.box.start,
        "encode_gap",
        lambda gap, clock: encode_gap(type(gap)((), 0, gap.reason), clock),
    )


@planted("rot", "altered")
def names_too_much_in_a_gap_record(patch: Patch) -> None:

    def widened(gap: Any, clock: Any) -> bytes:
        first, last = gap.ranges[-1]
        return encode_gap(type(gap)((*gap.ranges[:-1], (first, last + 200)), gap.records, gap.reason), clock)

    patch.setattr(agents.box.start, "encode_gap", widened)


# -- commands


@planted("crash", "commands")
def loses_commands(patch: Patch) -> None:
    patch.setattr(CommandDispatcher, "arrived", lambda *_: None)


@planted("crash", "commands")
def never_reports_a_result(patch: Patch) -> None:
    patch.setattr(CommandRunner, "_report", lambda *_: None)


# -- the instrument's agent


@planted("errors", "unacknowledged")
def drops_reports_that_it_could_not_post_at_once(patch: Patch) -> None:
    original = InstrumentAgent._post

    async def dropping(self: InstrumentAgent, connection: Any) -> Response:
        try:
            return await original(self, connection)
        except BaseException:
            self._queue._posting = []
            raise

    patch.setattr(InstrumentAgent, "_post", dropping)


@planted("errors", "unacknowledged")
def loses_its_queue_when_it_is_long(patch: Patch) -> None:
    original = ReportQueue.put

    def putting(self: ReportQueue, report: Any) -> None:
        original(self, report)
        if len(self._routine) > 6:
            self._routine.clear()

    patch.setattr(ReportQueue, "put", putting)


# -- the data center


@planted("errors", "lost")
def answers_before_it_commits(patch: Patch) -> None:
    """Each batch is committed only when the next one arrives, and is lost at a restart."""
    original, pending = Store.ingest_all, list[Any]()
    killed = VirtualDataCenter.hold_down

    def late(self: Store, received: Any) -> list[BatchReply]:
        if pending:
            original(self, pending.pop())
        pending.append(received)
        return [BatchReply(len(one.batch.records)) for one in received]

    async def forgetting(self: Any) -> Any:
        pending.clear()
        return await killed(self)

    patch.setattr(Store, "ingest_all", late)
    patch.setattr(VirtualDataCenter, "hold_down", forgetting)


def _change_records(
    patch: Patch, change: Callable[[list[tuple[int, Record]]], list[tuple[int, Record]]]
) -> None:
    """Let the data center change the records, with their sequence numbers, before it stores them."""

    def changed(
        box: str, epoch: int, stored_at_ms: int, records: Iterable[tuple[int, Record]]
    ) -> list[RecordRow]:
        return make_rows(box, epoch, stored_at_ms, change(list(records)))

    patch.setattr(datacenter.store.batches.batch, "make_rows", changed)


def _with_body(record: Record, **changes: Any) -> Record:
    entry = record.entry
    return replace(record, entry=replace(entry, body=replace(entry.body, **changes)))


@planted("errors", "lost")
def stores_all_but_the_last_record_of_a_batch(patch: Patch) -> None:
    _change_records(patch, lambda records: records[:-1] if len(records) > 1 else records)


@planted("errors", "altered")
def stores_an_empty_inventory(patch: Patch) -> None:
    def emptied(record: Record) -> Record:
        is_inventory = isinstance(record.entry.body, Inventory)
        return _with_body(record, tests_left={}) if is_inventory else record

    _change_records(patch, lambda records: [(sequence, emptied(record)) for sequence, record in records])


@planted("errors", "altered")
def stores_another_time(patch: Patch) -> None:
    def earlier(record: Record) -> Record:
        return _with_body(record, at_ms=record.entry.body.at_ms // 1000 * 1000)

    _change_records(patch, lambda records: [(sequence, earlier(record)) for sequence, record in records])


@planted("errors", "lost")
def stores_reports_without_their_numbers(patch: Patch) -> None:
    patch.setattr(
        datacenter.store.batches.batch,
        "make_rows",
        lambda *arguments: [row._replace(number=None) for row in make_rows(*arguments)],
    )
