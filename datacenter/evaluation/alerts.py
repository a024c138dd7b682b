"""The beginning and the end of alerts in the database, with their identity, evidence and notices.

An alert is identified by its instrument, its trigger and the report with which it began, so that a second evaluation
of that report finds the same alert. Its evidence is the position of that report, the fingerprint of the trigger, and
the values of the trigger's terms, from which the decision can be recomputed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple, TypeAlias

import msgspec
from sqlalchemy import Connection, insert, select, update

from datacenter.maintenance.windows import MaintenanceWindow, covering_window
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import alerts, notices
from datacenter.triggers.functions import text_of
from datacenter.triggers.live import AlertTransition, LiveEvaluator
from datacenter.triggers.silencefile import SilenceTrigger
from datacenter.triggers.tree import terms
from datacenter.triggers.triggerfile import Trigger

ReportKey: TypeAlias = tuple[str, str, int, int]
"""Box, instrument, run and number of a report."""


class AlertEvidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """The beginning of an alert: the report, the trigger's text, and its terms' values in units of the condition.

    `fingerprint` is computed only from these values and the alert's own columns. Alerts of earlier versions lack
    the last five.
    """

    run: int
    number: int
    at_ms: int
    fingerprint: str
    condition: str
    terms: dict[str, float | None]
    until: str | None = None
    lasts: str = ""
    holds_since_ms: int | None = None
    """The time since which the condition had held."""
    starts: dict[str, tuple[int, int]] = {}
    """Run and number of the first report that each term of `condition` and `until` was computed from."""
    base_day: int | None = None
    """The day whose snapshot of the installed base the terms use, if the trigger compares with it."""


class Begun(NamedTuple):
    """An alert that has begun."""

    id: str
    trigger: str
    instrument: str
    at_ms: int


class Ended(NamedTuple):
    """An alert that has ended."""

    id: str
    trigger: str
    instrument: str
    at_ms: int


def alert_id(key: ReportKey, trigger: str) -> str:
    """Return the identity of the alert that a trigger begins with the report `key`."""
    return sha256("\n".join((*map(str, key), trigger)).encode()).hexdigest()[:16]


def begin(
    connection: Connection,
    key: ReportKey,
    transition: AlertTransition,
    evaluator: LiveEvaluator,
    now_ms: int,
) -> Begun:
    """Store an alert that begins with the report `key`, which was evaluated last, and the notice of it."""
    _, instrument, run, number = key
    trigger = transition.trigger
    table = trigger.table
    of_trigger = {*terms(trigger.fires), *terms(trigger.clears)}
    evidence = AlertEvidence(
        run,
        number,
        transition.at_ms,
        trigger.fingerprint,
        table.when,
        evaluator.terms(trigger),
        table.until,
        table.lasts,
        evaluator.holds_since_ms(trigger),
        {
            text_of(term): start
            for term, start in zip(evaluator.program.terms, evaluator.starts, strict=True)
            if start is not None and term in of_trigger
        },
        transition.at_ms // DAY_MS if trigger.uses_base else None,
    )
    begun = Begun(alert_id(key, trigger.name), trigger.name, instrument, transition.at_ms)
    values = {"model": table.model, "component": table.component, "parts": "\n".join(table.parts)}
    _store(connection, begun, key, trigger, evidence, now_ms, values)
    return begun


def end(connection: Connection, key: ReportKey, transition: AlertTransition, now_ms: int) -> list[Ended]:
    """Store that the open alerts of a trigger end with the report `key`, and the notices of it."""
    box, instrument, run, number = key
    c = alerts.c
    open_ids = connection.scalars(
        select(c.id).where(
            c.box == box,
            c.instrument == instrument,
            c.trigger == transition.trigger.name,
            c.ended_at_ms.is_(None),
        )
    ).all()
    return [
        ended
        for id_ in open_ids
        for ended in end_alert(connection, id_, transition.at_ms, now_ms, (run, number))
    ]


def end_alert(
    connection: Connection, id_: str, at_ms: int, now_ms: int, key: tuple[int, int] | None = None
) -> list[Ended]:
    """Store that an alert has ended, and the notice of it; return the alert, or nothing if it had ended before."""
    run, number = key or (None, None)
    values = {"ended_at_ms": at_ms, "resolved_at_ms": now_ms, "end_run": run, "end_number": number}
    c = alerts.c
    row = connection.execute(
        update(alerts)
        .where(c.id == id_, c.ended_at_ms.is_(None))
        .values(values)
        .returning(c.trigger, c.instrument)
    ).first()
    if row is None:
        return []
    connection.execute(insert(notices).values(alert=id_, kind="resolved", created_at_ms=now_ms))
    return [Ended(id_, row.trigger, row.instrument, at_ms)]


class SilenceEvidence(msgspec.Struct, frozen=True):
    """The reason for an alert of silence: the latest report or contact; for a site also its boxes and instruments."""

    last_seen_ms: int
    at_ms: int
    fingerprint: str
    condition: str
    members: list[str]


def begin_silence(
    connection: Connection,
    key: ReportKey,
    trigger: SilenceTrigger,
    model: str,
    began_ms: int,
    now_ms: int,
    *,
    last_seen_ms: int,
    members: Sequence[str] = (),
) -> Begun:
    """Store an alert of silence after the report `key`, and the notice of it, unless it is already stored."""
    condition = f"silence of {trigger.table.of} {trigger.table.silence}"
    evidence = SilenceEvidence(last_seen_ms, began_ms, trigger.fingerprint, condition, list(members))
    begun = Begun(alert_id(key, trigger.name), trigger.name, key[1], began_ms)
    if connection.scalar(select(alerts.c.id).where(alerts.c.id == begun.id)) is not None:
        return begun
    _store(connection, begun, key, trigger, evidence, now_ms, {"model": model, "component": "", "parts": ""})
    return begun


def _store(
    connection: Connection,
    begun: Begun,
    key: ReportKey,
    trigger: Trigger | SilenceTrigger,
    evidence: AlertEvidence | SilenceEvidence,
    now_ms: int,
    values: Mapping[str, str | int],
) -> None:
    """Store an alert, silenced in a maintenance window if its trigger requires this, and the notice of it."""
    box, instrument, run, number = key
    window = None
    if trigger.table.silent_in_maintenance:
        times_ms = begun.at_ms, now_ms
        window = covering_window(connection, box, instrument, trigger.table.severity, times_ms)
    if window is not None:
        values = {**values, **_silence(window, now_ms)}
    connection.execute(
        insert(alerts).values(
            id=begun.id,
            box=box,
            instrument=instrument,
            trigger=trigger.name,
            trigger_hash=trigger.fingerprint,
            severity=trigger.table.severity,
            run=run,
            number=number,
            began_at_ms=begun.at_ms,
            raised_at_ms=now_ms,
            evidence=msgspec.msgpack.encode(evidence),
            text=trigger.table.text,
            **values,
        )
    )
    connection.execute(insert(notices).values(alert=begun.id, kind="raised", created_at_ms=now_ms))


def _silence(window: MaintenanceWindow, now_ms: int) -> dict[str, str | int]:
    """Return the columns of an alert that a window silences."""
    return {
        "silenced_at_ms": now_ms,
        "silenced_until_ms": window.until_ms,
        "silenced_by": window.planned_by,
        "silence_reason": f"maintenance: {window.reason}",
        "maintenance": window.id,
    }
