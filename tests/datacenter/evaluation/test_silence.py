"""Alerts for silent instruments, boxes and sites, which are distinguished by the records of the boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import pytest
from sqlalchemy import insert, select, update

from datacenter.evaluation.alerts import SilenceEvidence
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.silence import SilenceWatch
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, notices, sites
from datacenter.triggers.silencefile import SilenceTable, make_silence
from datacenter.triggers.triggerfile import Trigger
from tests.support.datacenter.evaluation.triggers import MODEL, trigger
from tests.support.datacenter.store.batches import AT_MS
from wire.messages import (
    Audit,
    Batch,
    BoxReport,
    Entry,
    InstrumentReport,
    ProfileInForce,
    Status,
    decode,
    encode,
    encode_batch,
)

MINUTE = 60_000
BOXES = ("RAP-0001", "RAP-0002")


def silence(of: Literal["instrument", "box", "site"], minutes: int) -> object:
    model = MODEL if of == "instrument" else ""
    table = SilenceTable(of=of, silence=f"{minutes}min", severity="error", text="Silent", model=model)
    return make_silence(f"silent-{of}", table)


class Center:
    """A data center with a clock in minutes, and two boxes at one site, each with one or more instruments."""

    def __init__(self, store: Store, *, of: Sequence[str] = ("instrument", "box", "site")) -> None:
        minutes = {"instrument": 30, "box": 20, "site": 10}
        silences = [silence(one, minutes[one]) for one in of]  # type: ignore[arg-type]
        triggers: list[Trigger] = [trigger("water-conductivity-ns > 50", name="water")]
        self.store, self.minute = store, 0
        self.triggers = TriggerSet(triggers, silences)  # type: ignore[arg-type]
        self.sequences, self.numbers = dict.fromkeys(BOXES, 0), dict[str, int]()
        self.waiting: dict[str, list[tuple[str, InstrumentReport | BoxReport]]] = {box: [] for box in BOXES}
        with store.transaction() as connection:
            site = {"site": "s1", "name": "s", "country": "DE", "region": "r", "zone": "UTC"}
            connection.execute(insert(sites).values(site))
            connection.execute(update(boxes).values(site="s1"))

    @property
    def now_ms(self) -> int:
        return AT_MS + self.minute * MINUTE

    def note(self, box: str, event: str = "alive") -> None:
        """Record an event on the box."""
        self.waiting[box].append(("", Audit(self.now_ms, event)))

    def report(self, box: str, instrument: str, water: int = 0, clock_minutes: int = 0) -> None:
        """Record a report of an instrument on the box; its clock is `clock_minutes` ahead."""
        number = self.numbers[instrument] = self.numbers.get(instrument, 0) + 1
        if number == 1:
            self.waiting[box].append(("", ProfileInForce(self.now_ms, instrument, MODEL, 1)))
        at_ms = self.now_ms + clock_minutes * MINUTE
        readings = {"water-conductivity-ns": water}
        self.waiting[box].append((instrument, Status(number, at_ms, "running", 0, readings)))

    def upload(self, *names: str) -> None:
        """Let the boxes send their waiting records (all boxes by default), and evaluate them."""
        for box in names or BOXES:
            records = self.waiting[box]
            if records:
                first = self.sequences[box] + 1
                entries = [encode(Entry(instrument, 1, body)) for instrument, body in records]
                data = encode_batch(1, list(enumerate(entries, first)))
                self.sequences[box] += len(records)
                self.waiting[box] = []
                self.store.ingest(box, decode(Batch, data), self.now_ms)
            Evaluator(self.store, self.triggers).advance(box, self.now_ms)

    def look(self) -> None:
        """Let the data center look for silence, as it does each minute."""
        SilenceWatch(self.store, self.triggers).advance(self.now_ms)

    def run(self, until: int, *talking: str, boxes: Sequence[str] = BOXES) -> None:
        """Advance the clock to the minute `until`, with uploads and watches for silence each minute.

        `boxes` record a heartbeat every 5 minutes, and `talking` instruments report each minute.
        """
        while self.minute < until:
            self.minute += 1
            for box in boxes:
                if self.minute % 5 == 0:
                    self.note(box)
            for instrument in talking:
                self.report(BOXES[int(instrument[-1]) - 1], instrument)
            self.upload(*boxes)
            self.look()

    def alerts(self) -> list[tuple[str, str, str, float, float | None]]:
        """Return trigger, box, instrument, and the minutes of beginning and end."""
        c = alerts.c
        rows = self.store.read(
            select(c.trigger, c.box, c.instrument, c.began_at_ms, c.ended_at_ms).order_by(
                c.began_at_ms, c.trigger, c.box
            )
        )
        return [
            (*row[:3], (row[3] - AT_MS) / MINUTE, None if row[4] is None else (row[4] - AT_MS) / MINUTE)
            for row in rows
        ]

    def notices(self) -> int:
        return len(list(self.store.read(select(notices.c.alert))))


A, B, A2 = "CHEM-1", "CHEM-2", "DIAG-1"


@pytest.fixture
def center(store: Store) -> Center:
    return Center(store)


def test_a_silent_instrument_has_an_alert_until_it_reports(center: Center) -> None:
    center.run(10, A, B)
    center.run(39, B)
    assert center.alerts() == []
    center.run(45, B)
    assert center.alerts() == [("silent-instrument", "RAP-0001", A, 40, None)]
    center.run(60, A, B)
    assert center.alerts() == [("silent-instrument", "RAP-0001", A, 40, 46)]
    assert center.notices() == 2
    (row,) = center.store.read(select(alerts.c.evidence, alerts.c.severity, alerts.c.text))
    evidence = msgspec.msgpack.decode(row.evidence, type=SilenceEvidence)
    assert (evidence.last_seen_ms, evidence.condition) == (AT_MS + 10 * MINUTE, "silence of instrument 30min")
    assert (row.severity, row.text) == ("error", "Silent")


def test_a_silent_box_is_not_a_silent_instrument(center: Center) -> None:
    center.run(10, A, B)
    center.run(60, B, boxes=BOXES[1:])
    assert center.alerts() == [("silent-box", "RAP-0001", "", 30, None)]
    center.note(BOXES[0], "started")
    center.run(85, B)
    assert center.alerts() == [("silent-box", "RAP-0001", "", 30, 61)]
    center.run(110, B)
    assert center.alerts()[1:] == [("silent-instrument", "RAP-0001", A, 90, None)]


def test_a_backlog_shows_that_the_instrument_was_not_silent(center: Center) -> None:
    center.run(10, A, B)
    for minute in range(11, 60):
        center.minute = minute
        center.report(BOXES[0], A)
        center.report(BOXES[1], B)
        center.upload(BOXES[1])
        center.look()
    center.run(70, A, B)
    assert [one[0] for one in center.alerts()] == ["silent-box"]


@pytest.mark.slow("evaluates hours of a fleet on PostgreSQL")
def test_a_backlog_shows_a_silence_with_its_own_times(center: Center) -> None:
    center.run(10, A, B)
    for minute in range(11, 120):
        center.minute = minute
        if minute % 5 == 0:
            center.note(BOXES[0])
        if minute >= 60:
            center.report(BOXES[0], A)
        center.report(BOXES[1], B)
        center.upload(BOXES[1])
        center.look()
    center.run(121, A, B)
    assert ("silent-instrument", "RAP-0001", A, 40, 60) in center.alerts()


def test_time_without_a_data_center_is_evaluated_later(center: Center) -> None:
    center.run(10, A, B)
    for minute in range(11, 100):
        center.minute = minute
        if minute % 5 == 0:
            center.note(BOXES[0])
        center.report(BOXES[1], B)
    center.run(101, B)
    assert center.alerts() == [("silent-instrument", "RAP-0001", A, 40, None)]


def test_no_box_is_silent_because_the_data_center_was_down(center: Center) -> None:
    center.run(10, A, B)
    center.minute = 100
    center.look()
    assert center.alerts() == []
    center.run(119, A, boxes=BOXES[:1])
    assert center.alerts() == []
    center.run(125, A, boxes=BOXES[:1])
    assert center.alerts() == [("silent-box", "RAP-0002", "", 30, None)]


def test_a_restart_of_the_data_center_ends_no_alert(center: Center) -> None:
    center.run(10, A, B)
    center.run(60, A, boxes=BOXES[:1])
    before = center.alerts(), center.notices()
    center.minute = 100
    center.look()
    assert (center.alerts(), center.notices()) == before


def test_the_outage_of_a_site_is_one_alert(center: Center) -> None:
    center.run(10, A, B, A2)
    center.run(12, B, boxes=BOXES[1:])
    center.run(60, boxes=())
    assert center.alerts() == [("silent-site", "RAP-0001", "", 32, None)]
    assert center.notices() == 1
    (row,) = center.store.read(select(alerts.c.evidence))
    evidence = msgspec.msgpack.decode(row.evidence, type=SilenceEvidence)
    assert evidence.members == [*BOXES, A, A2, B]


def test_members_that_stay_silent_after_an_outage_have_their_own_alert(center: Center) -> None:
    center.run(10, A, B)
    center.run(60, boxes=())
    center.run(70, B, boxes=BOXES[1:])
    assert center.alerts() == [("silent-site", "RAP-0001", "", 30, 61)]
    center.run(72, B, boxes=BOXES[1:])
    assert sorted(center.alerts()) == [
        ("silent-box", "RAP-0001", "", 30, None),
        ("silent-site", "RAP-0001", "", 30, 61),
    ]


def test_all_instruments_of_a_connected_site_are_one_alert(center: Center) -> None:
    center.run(10, A, B)
    center.run(60)
    assert [one[:1] + one[3:] for one in center.alerts()] == [("silent-site", 40, None)]


def test_no_other_alert_ends_while_a_site_is_silent(center: Center) -> None:
    center.run(9, A, B)
    center.minute = 10
    center.report(BOXES[0], A, water=60)
    center.upload()
    center.run(300, boxes=())
    assert ("water", "RAP-0001", A, 10, None) in center.alerts()
    assert all(one[4] is None for one in center.alerts())


@pytest.mark.parametrize("clock_minutes", [-120, 10 * 365 * 1440])
@pytest.mark.slow("evaluates hours of a fleet on PostgreSQL")
def test_a_wrong_clock_causes_no_alert_for_silence(center: Center, clock_minutes: int) -> None:
    for minute in range(1, 100):
        center.minute = minute
        center.report(BOXES[0], A, clock_minutes=clock_minutes)
        center.report(BOXES[1], B)
        if minute % 20 == 0:
            center.note(BOXES[0])
        center.upload()
        center.look()
    assert center.alerts() == []


def test_without_silence_triggers_nothing_is_recorded(store: Store) -> None:
    center = Center(store, of=())
    center.run(10, A, B)
    center.run(200)
    assert center.alerts() == []


def test_a_box_that_no_trigger_watches_holds_up_no_alert(store: Store) -> None:
    center = Center(store, of=("instrument", "site"))
    center.run(10, A, B)
    center.run(70, boxes=BOXES[:1])
    assert center.alerts() == [("silent-instrument", "RAP-0001", A, 40, None)]


def test_an_instrument_without_a_site_trigger_has_its_own_alert(store: Store) -> None:
    center = Center(store, of=("instrument", "box"))
    center.run(10, A, B)
    center.run(60, boxes=())
    assert [one[:2] for one in center.alerts()] == [("silent-box", "RAP-0001"), ("silent-box", "RAP-0002")]


@pytest.mark.slow("evaluates hours of a fleet on PostgreSQL")
def test_one_silent_box_is_no_outage_of_a_site_without_instrument_triggers(store: Store) -> None:
    center = Center(store, of=("box", "site"))
    center.run(10, A, B)
    center.run(60, A, boxes=BOXES[:1])
    assert center.alerts() == [("silent-box", "RAP-0002", "", 30, None)]
    center.run(120, boxes=())
    assert center.alerts()[1:] == [("silent-site", "RAP-0001", "", 80, None)]
