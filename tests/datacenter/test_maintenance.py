"""Maintenance windows delay notices without losing them, and only staff who may silence alerts can plan them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from sqlalchemy import insert, select, update

from datacenter.access.control import AccessDecider, AccessRules
from datacenter.access.decision import Decision
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.fleet.alerts import SilenceError, silence
from datacenter.maintenance.desk import MaintenanceDesk, MaintenanceRefusedError
from datacenter.maintenance.windows import Kind
from datacenter.notices.outbox import AttemptOutcome, AttemptResult, claim, claim_open, route, settle
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, deliveries, instruments, sites
from datacenter.triggers.triggerfile import Trigger, make_trigger
from settings.profile import Severity
from tests.support.datacenter.evaluation.arrivals import BOX, SERIAL, batch, numbered, profile, status
from tests.support.datacenter.evaluation.triggers import MODEL, trigger
from tests.support.datacenter.notices import CHAT
from tests.support.datacenter.store.batches import AT_MS
from tests.support.datacenter.web.client import POLICIES, STAFF

HOUR_MS = 3_600_000
NAMES: dict[Kind, tuple[str, str, str]] = {
    "site": ("s1", "", ""),
    "box": ("", BOX, ""),
    "instrument": ("", BOX, SERIAL),
}


def place(store: Store) -> None:
    """Insert a site, and an instrument of the box at this site."""
    with store.transaction() as connection:
        connection.execute(
            insert(sites).values(site="s1", name="S", country="DE", region="europe", zone="UTC")
        )
        connection.execute(update(boxes).where(boxes.c.serial == BOX).values(site="s1"))
        of_report = {"run": 0, "number": 0, "at_ms": 0, "stored_at_ms": 0, "evaluation": b""}
        connection.execute(insert(instruments).values(box=BOX, serial=SERIAL, model=MODEL, **of_report))


@pytest.fixture
def memory() -> Iterator[Store]:
    store = Store("sqlite://")
    store.authorize([BOX, "RAP-0002"], 0)
    place(store)
    yield store
    store.close()


def desk(store: Store, decisions: list[Decision] | None = None) -> MaintenanceDesk:
    record = [] if decisions is None else decisions
    return MaintenanceDesk(store, AccessDecider(AccessRules(POLICIES, STAFF), record.append))


def plan(store: Store, kind: Kind = "instrument", staff: str = "supervisor", begins_ms: int = AT_MS) -> str:
    times_ms = begins_ms, begins_ms + HOUR_MS
    return desk(store).plan(staff, kind, NAMES[kind], times_ms, "new lamp", AT_MS - 5).id


def water(severity: Severity = "warning", *, silent: bool = True) -> Trigger:
    table = trigger("water-conductivity-ns > 50").table
    changed = msgspec.structs.replace(table, silent_in_maintenance=silent, severity=severity)
    return make_trigger("water", changed)


def evaluate(store: Store, rule: Trigger, *numbers: int, clean: int = 0, now_ms: int) -> None:
    """Store reports with bad water, except the report `clean`, and evaluate them."""
    reports = [status(number, water=0 if number == clean else 60) for number in numbers]
    sequences = [(number + 1, report) for number, report in zip(numbers, reports, strict=True)]
    store.ingest(BOX, batch([*numbered(profile()), *sequences]), now_ms)
    Evaluator(store, TriggerSet([rule])).advance(BOX, now_ms)


def sent(store: Store, now_ms: int) -> list[tuple[str, str]]:
    """Route and claim the notices that are due at a time; return their kinds and triggers."""
    route(store, [CHAT], now_ms)
    return [(one.kind, one.trigger) for one in claim(store, CHAT, "p", "", now_ms)]


def silenced(store: Store) -> list[tuple[int | None, str | None]]:
    return [tuple(row) for row in store.read(select(alerts.c.silenced_until_ms, alerts.c.silence_reason))]


def test_the_notice_of_an_alert_that_outlasts_its_window_is_sent_at_the_end(store: Store) -> None:
    place(store)
    plan(store)
    evaluate(store, water(), 1, 2, now_ms=AT_MS + 120_000)
    assert silenced(store) == [(AT_MS + HOUR_MS, "maintenance: new lamp")]
    assert sent(store, AT_MS + 130_000) == []
    assert claim_open(store, CHAT, "p", "", AT_MS + 130_000) == []
    assert sent(store, AT_MS + HOUR_MS) == [("raised", "water")]


def test_an_alert_that_ends_within_its_window_is_recorded_and_never_sent(store: Store) -> None:
    place(store)
    plan(store)
    evaluate(store, water(), 1, 2, 3, clean=3, now_ms=AT_MS + 180_000)
    for now_ms in (AT_MS + 190_000, AT_MS + 2 * HOUR_MS):
        assert sent(store, now_ms) == []
    assert len(silenced(store)) == 1
    rows = store.read(select(deliveries.c.kind, deliveries.c.state))
    assert [tuple(row) for row in rows] == [("resolved", "needless")]


@pytest.mark.parametrize(
    ("kind", "silent", "severity", "staff", "is_silenced"),
    [
        ("site", True, "warning", "supervisor", True),
        ("box", True, "warning", "supervisor", True),
        ("instrument", True, "critical", "supervisor", True),
        ("instrument", True, "critical", "engineer", False),
        ("instrument", True, "warning", "engineer", True),
        ("site", False, "warning", "supervisor", False),
    ],
)
def test_windows_silence_only_their_alerts(
    memory: Store, kind: Kind, silent: bool, severity: Severity, staff: str, is_silenced: bool
) -> None:
    plan(memory, kind, staff)
    evaluate(memory, water(severity, silent=silent), 1, 2, now_ms=AT_MS + 120_000)
    assert [until is not None for until, _ in silenced(memory)] == [is_silenced]


@pytest.mark.parametrize("begins_ms", [AT_MS + 121_000, AT_MS - HOUR_MS])
def test_an_alert_outside_of_the_window_is_sent(memory: Store, begins_ms: int) -> None:
    plan(memory, begins_ms=begins_ms)
    evaluate(memory, water(), 1, 2, now_ms=AT_MS + 120_000)
    assert sent(memory, AT_MS + 130_000) == [("raised", "water")]


def test_a_window_that_ends_early_releases_its_notices(memory: Store) -> None:
    window = plan(memory)
    evaluate(memory, water(), 1, now_ms=AT_MS + 60_000)
    assert sent(memory, AT_MS + 70_000) == []
    assert desk(memory).end("supervisor", window, AT_MS + 80_000).ended_by == "supervisor"
    assert sent(memory, AT_MS + 80_001) == [("raised", "water")]
    with pytest.raises(MaintenanceRefusedError, match="has already ended"):
        desk(memory).end("supervisor", window, AT_MS + 90_000)


@pytest.mark.parametrize(
    ("kind", "staff", "message"),
    [
        ("site", "engineer", "policy"),
        ("box", "engineer", "policy"),
        ("instrument", "observer", "policy"),
        ("instrument", "newcomer", "there is no instrument"),
        ("site", "nobody", "there is no site s1"),
    ],
)
def test_only_staff_who_may_silence_alerts_can_plan_a_window(
    memory: Store, kind: Kind, staff: str, message: str
) -> None:
    decisions: list[Decision] = []
    with pytest.raises(MaintenanceRefusedError, match=message):
        desk(memory, decisions).plan(staff, kind, NAMES[kind], (AT_MS, AT_MS + 1), "x", AT_MS - 5)
    assert not decisions[-1].permitted
    assert desk(memory).list("supervisor", AT_MS) == []


@pytest.mark.parametrize(
    ("times_ms", "reason", "message"),
    [
        ((AT_MS - 10, AT_MS - 5), "x", "in the future"),
        ((AT_MS + 5, AT_MS + 5), "x", "after its beginning"),
        ((AT_MS, AT_MS + 400 * HOUR_MS), "x", "within 336 hours"),
        ((AT_MS + 9000 * HOUR_MS, AT_MS + 9001 * HOUR_MS), "x", "within 366 days"),
        ((AT_MS, AT_MS + 5), " ", "a reason in one line"),
        ((AT_MS, AT_MS + 5), "a\nb", "a reason in one line"),
    ],
)
def test_wrong_windows_are_refused(
    memory: Store, times_ms: tuple[int, int], reason: str, message: str
) -> None:
    with pytest.raises(MaintenanceRefusedError, match=message):
        desk(memory).plan("supervisor", "site", NAMES["site"], times_ms, reason, AT_MS)


def test_a_silenced_alert_sends_nothing_until_the_silence_ends(memory: Store) -> None:
    evaluate(memory, water(), 1, now_ms=AT_MS + 60_000)
    (alert,) = next(memory.read(select(alerts.c.id)))
    silence(memory, alert, "engineer", 2, "known", AT_MS + 60_000)
    assert sent(memory, AT_MS + HOUR_MS) == []
    assert list(memory.read(select(deliveries.c.alert))) == []
    silence(memory, alert, "engineer", 0, "done", AT_MS + HOUR_MS)
    assert sent(memory, AT_MS + HOUR_MS) == [("raised", "water")]
    for hours, reason in ((-1, "x"), (721, "x"), (1, ""), (1, "x" * 201)):
        with pytest.raises(SilenceError, match="give a"):
            silence(memory, alert, "engineer", hours, reason, AT_MS)


def test_a_silence_also_stops_notices_that_wait_and_are_repeated(memory: Store) -> None:
    evaluate(memory, water(), 1, now_ms=AT_MS + 60_000)
    (alert,) = next(memory.read(select(alerts.c.id)))
    route(memory, [CHAT], AT_MS + 60_000)
    silence(memory, alert, "engineer", 1, "known", AT_MS + 60_000)
    assert claim(memory, CHAT, "p", "", AT_MS + 60_001) == []
    now_ms = AT_MS + 2 * HOUR_MS
    claimed = claim(memory, CHAT, "p", "", now_ms)
    settle(memory, CHAT, "p", claimed, AttemptOutcome(AttemptResult.SENT), now_ms)
    silence(memory, alert, "engineer", 1, "known", now_ms)
    assert claim_open(memory, CHAT, "p", "", now_ms) == []
    settle(memory, CHAT, "p", [], AttemptOutcome(AttemptResult.SENT), now_ms)
    assert claim_open(memory, CHAT, "p", "", now_ms + HOUR_MS) == claimed
