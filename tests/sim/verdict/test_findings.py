"""The records in the data center's database and on the box's disk are entered in the ledger and in the findings."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from agents.spool import GapReason, SpoolGap
from datacenter.store.store import Store
from sim.units import MILLISECOND_NS
from sim.verdict.findings import Findings, SpoolContent, find
from sim.verdict.ledger import NEVER, ReportLedger, digest_of
from sim.verdict.result import AuditNote, GapFound
from tests.support.datacenter.store.batches import AT_MS, alert, batch, result
from wire.messages import Audit, BoxReport, Entry, Gap, InstrumentReport, encode
from wire.standards.extract import Finding

BOX, SERIAL = "RAP-0001", "CHEM-0001"
MS = MILLISECOND_NS
END_NS = 900_000 * MS
LATER = 1 << 53
"""The distance between the sequence numbers of one epoch and the next."""


def store_with(*batches: tuple[Any, int]) -> Store:
    """Return a store with batches, each with the time in ms after the start of the lab at which it is stored."""
    store = Store("sqlite://", durable=False)
    store.authorize([BOX], AT_MS)
    for sent, stored_ms in batches:
        store.ingest(BOX, sent, AT_MS + stored_ms)
    return store


def remains(*records: tuple[int, bytes], epoch: int = 1, gaps: tuple[SpoolGap, ...] = ()) -> SpoolContent:
    return SpoolContent(epoch, list(records), gaps)


def ledger_of(*reports: InstrumentReport) -> ReportLedger:
    """Return the ledger of an instrument that made these reports, each at its own time."""
    ledger = ReportLedger()
    run = ledger.begin(SERIAL, 1)
    for report in reports:
        kind = str(type(report).__struct_config__.tag)
        run.made(kind, (report.at_ms - AT_MS) * MS, digest_of(kind, report.at_ms, encode(report)))
    return ledger


def found(store: Store, remaining: SpoolContent, ledger: ReportLedger) -> Findings:
    return find(store, remaining, ledger, AT_MS, END_NS)


def entry(body: InstrumentReport | BoxReport, instrument: str = SERIAL, run: int = 1) -> bytes:
    return encode(Entry(instrument, run, body))


def test_reports_at_the_data_center_and_on_the_disk_are_entered() -> None:
    ledger = ledger_of(alert(1), alert(2), alert(3))
    findings = found(store_with((batch(alert(1), first=5), 70)), remains((9, entry(alert(2)))), ledger)
    assert [(one.sequence, one.stored_ns) for one in ledger] == [(5, 70 * MS), (9, NEVER), (NEVER, NEVER)]
    assert findings.sequences == [5, 9]
    assert not ledger.unexpected
    assert not ledger.runs[SERIAL, 1].altered


def test_sequence_numbers_of_epochs_follow_the_order_of_their_first_records() -> None:
    store = store_with((batch(alert(1), first=8, epoch=7), 10), (batch(alert(2), first=3, epoch=2), 20))
    ledger = ledger_of(alert(1), alert(2), alert(3))
    findings = found(store, remains((1, entry(alert(3))), epoch=4), ledger)
    assert findings.sequences == [8, LATER + 3, 2 * LATER + 1]
    assert [one.sequence for one in ledger] == findings.sequences


def test_the_disk_of_an_epoch_with_stored_records_continues_that_epoch() -> None:
    store = store_with((batch(alert(1), first=8, epoch=7), 10), (batch(alert(2), first=3, epoch=2), 20))
    ledger = ledger_of(alert(1), alert(2), alert(3))
    assert found(store, remains((9, entry(alert(3))), epoch=7), ledger).sequences == [8, 9, LATER + 3]


def test_altered_reports_are_entered_with_their_numbers() -> None:
    ledger = ledger_of(alert(1), alert(2), alert(3))
    altered = (alert(1), result(2, 7), alert(3))
    found(store_with((batch(*altered[:2]), 0)), remains((3, entry(alert(3)))), ledger)
    assert ledger.runs[SERIAL, 1].altered == {2}


def test_reports_that_no_instrument_made_are_described_with_their_location() -> None:
    ledger = ledger_of(alert(1))
    found(store_with((batch(alert(2), first=5), 0)), remains((6, entry(alert(9), run=3))), ledger)
    assert ledger.unexpected == [
        "CHEM-0001 run 1 number 2, sequence 5, at the data center",
        "CHEM-0001 run 3 number 9, sequence 6, on the box's disk",
    ]


def test_reports_of_a_continued_run_belong_to_the_run() -> None:
    ledger = ledger_of(alert(1))
    ledger.continues(ledger.runs[SERIAL, 1], 2)
    found(store_with((batch(alert(1), run=2), 0)), remains(), ledger)
    assert not ledger.unexpected
    assert next(iter(ledger)).sequence == 1


def test_reports_of_adapted_instruments_are_entered_by_their_content() -> None:
    ledger = ReportLedger()
    adapted = ledger.begin_adapted(SERIAL)
    for report in (alert(1), alert(2), alert(3)):
        fields = tuple(getattr(report, name) for name in report.__struct_fields__[2:])
        adapted.made(Finding(type(report), fields, report.at_ms), 0)
    store = store_with((batch(replace(alert(2), number=1), first=5), 70))
    found(store, remains((6, entry(replace(alert(3), number=2)))), ledger)
    assert [(one.sequence, one.stored_ns) for one in ledger] == [(NEVER, NEVER), (5, 70 * MS), (6, NEVER)]
    assert not ledger.unexpected


def test_unreadable_records_on_the_disk_are_described_and_count_as_found() -> None:
    ledger = ledger_of(alert(1))
    findings = found(store_with(), remains((4, b"\xc1")), ledger)
    assert findings.sequences == [4]
    assert len(ledger.unexpected) == 1
    assert ledger.unexpected[0].startswith("sequence 4 on the box's disk cannot be read: ")


def gap(*ranges: tuple[int, int], at_ms: int = 30) -> Gap:
    return Gap(AT_MS + at_ms, "disk-full", 6, ranges)


def test_gaps_are_collected_from_the_database_the_disk_and_the_spool() -> None:
    store = store_with(
        (batch(alert(1), first=1, epoch=1), 10),
        (batch(gap((2, 3), (5, 5)), first=6, epoch=1, instrument="", run=0), 20),
        (batch(alert(2), first=1, epoch=2), 30),
    )
    unreported = SpoolGap(((8, 9),), 2, GapReason.CORRUPT)
    remaining = remains((4, entry(gap((2, 3), at_ms=40), "", 0)), epoch=2, gaps=(unreported,))
    findings = found(store, remaining, ledger_of(alert(1), alert(2)))
    assert findings.gaps == [
        GapFound(30 * MS, "disk-full", 6, ((2, 3), (5, 5))),
        GapFound(40 * MS, "disk-full", 6, ((LATER + 2, LATER + 3),)),
        GapFound(END_NS, "corrupt", 2, ((LATER + 8, LATER + 9),)),
    ]
    assert findings.own_waiting == [40 * MS]


def test_records_that_arrive_after_a_gap_record_named_them_are_false_gaps() -> None:
    store = store_with(
        (batch(alert(1), first=2), 10),
        (batch(gap((2, 4)), first=6, instrument="", run=0), 20),
        (batch(alert(2), first=4), 30),
    )
    ledger = ledger_of(alert(1), alert(2), alert(3))
    findings = found(store, remains((3, entry(alert(3)))), ledger)
    assert findings.false_gaps == [
        "sequence 3 arrived, which a gap record had named as lost",
        "sequence 4 arrived, which a gap record had named as lost",
    ], "2 had arrived before the gap record"


def test_alerts_and_audit_records_become_notes_in_the_order_of_their_times() -> None:
    events = Audit(AT_MS + 5, "port-up", 3, 7), Audit(AT_MS + 1, "started"), gap((3, 3), at_ms=4)
    store = store_with((batch(*events, first=7, instrument="", run=0), 50), (batch(alert(2)), 60))
    findings = found(store, remains(), ledger_of(alert(1), alert(2)))
    assert findings.notes == [
        AuditNote(1 * MS, "audit", "box", "started"),
        AuditNote(2 * MS, "alert", SERIAL, "warning: T0101 bath, 37900"),
        AuditNote(4 * MS, "audit", "box", "gap: 6 records, disk-full"),
        AuditNote(5 * MS, "audit", "box", "port-up, port 3, 7"),
    ]


def test_commands_are_described_with_their_target_and_outcome() -> None:
    store = store_with()
    first = store.queue_command(BOX, SERIAL, "help-file", b"", AT_MS + 10)
    store.queue_command(BOX, "", "send-inventory", b"", AT_MS + 20)
    store.ingest(BOX, batch(result(1, first)), AT_MS + 90)
    commands = found(store, remains(), ledger_of(result(1, first))).commands
    assert [(command.text, command.queued_ns, command.closed_ns, command.state) for command in commands] == [
        ("help-file for CHEM-0001: done", 10 * MS, 90 * MS, "done"),
        ("send-inventory for the box: queued", 20 * MS, NEVER, "queued"),
    ]
