"""The outbox: deliveries of notices to targets, in the database.

The states of a delivery:

    waiting    for its target, or for the next attempt
    sending    an attempt was recorded, but not its outcome
    sent       the target accepted it
    failed     it was refused, or could not be sent for GIVE_UP_MS
    uncertain  a process ended during the attempt, or the attempt took too long; it is not repeated
    needless   a notice that the alert was resolved, whose beginning was not delivered to this target

The last four are final.

The beginning of a silenced alert is not sent: `route` leaves the notice until the silence or the alert ends. If the
alert ended in the silence, there is no delivery.

`claim` takes the lease of a target and records the attempt in one transaction; `settle`
records the outcome and returns the lease. Both do nothing if another process has the lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from datacenter.notices.notice import Notice
from datacenter.notices.read import read_notices
from datacenter.notices.targets import NoticeTarget
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, deliveries, notice_targets, notices, sites

ROUTED_MAX: Final = 500
"""Maximum number of notices that are routed in one transaction."""
GROUP_MAX: Final = 50
"""Maximum number of notices in one message."""
LEASE_MS: Final = 120_000
"""Duration of the lease on a target, longer than any attempt; after it, another process takes over."""
RETRY_MS_MIN: Final = 30_000
RETRY_MS_MAX: Final = 3_600_000
GIVE_UP_MS: Final = 86_400_000
GIVE_UP_ATTEMPTS: Final = 10
"""A notice is abandoned after both GIVE_UP_MS and GIVE_UP_ATTEMPTS unsuccessful attempts."""
PROBLEM_CHARACTERS_MAX: Final = 200
_D: Final = deliveries.c
_T: Final = notice_targets.c


class DeliveryState(StrEnum):
    """The states of a delivery."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    NEEDLESS = "needless"


class AttemptResult(StrEnum):
    """The result of an attempt: a `FAILED` attempt is repeated, a `REFUSED` one would be refused again."""

    SENT = "sent"
    FAILED = "failed"
    REFUSED = "refused"
    UNCERTAIN = "uncertain"


class AttemptOutcome(NamedTuple):
    """The result of an attempt, and the reason if it was not sent."""

    result: AttemptResult
    problem: str = ""


def route(store: Store, targets: Sequence[NoticeTarget], now_ms: int) -> int:
    """Create the deliveries of new notices; return the number of notices, 0 if there are no more.

    Raises: StoreError.
    """
    with store.transaction() as connection:
        _lock(connection)
        n, a = notices.c, alerts.c
        rows = connection.execute(
            select(n.alert, n.kind, a.severity, a.model, sites.c.region, _was_silent().label("was_silent"))
            .select_from(notices.join(alerts, n.alert == a.id))
            .outerjoin(boxes, a.box == boxes.c.serial)
            .outerjoin(sites, boxes.c.site == sites.c.site)
            .where(n.routed_at_ms.is_(None), or_(n.kind != "raised", ~_is_silent(now_ms)))
            .order_by(n.created_at_ms)
            .limit(ROUTED_MAX)
        ).all()
        new_deliveries = [
            {"alert": row.alert, "kind": row.kind, "target": target.name}
            for row in rows
            if not (row.kind == "raised" and row.was_silent)
            for target in targets
            if target.wants(row.severity, row.region or "", row.model)
        ]
        new = {
            "state": DeliveryState.WAITING,
            "attempts": 0,
            "alone": 0,
            "created_at_ms": now_ms,
            "changed_at_ms": now_ms,
        }
        if new_deliveries:
            connection.execute(insert(deliveries), [delivery | new for delivery in new_deliveries])
        if rows:
            keys = tuple_(n.alert, n.kind).in_([(row.alert, row.kind) for row in rows])
            connection.execute(update(notices).where(keys).values(routed_at_ms=now_ms))
        return len(rows)


def have_work(store: Store) -> set[str]:
    """Return the names of targets with deliveries that wait or whose outcome is missing. Raises: StoreError."""
    query = select(_D.target).where(_D.state.in_(_UNSETTLED)).distinct()
    return {name for (name,) in store.read(query)}


def claim(store: Store, target: NoticeTarget, process: str, link: str, now_ms: int) -> list[Notice]:
    """Take the lease of a target if a delivery is due, and record the attempt; return the notices to send.

    The result is empty if there is nothing to send now, or if another process has the lease. Raises: StoreError.
    """
    with store.transaction() as connection:
        if not _take_lease(connection, target, process, now_ms):
            return []
        _recover(connection, target, now_ms)
        _skip_needless(connection, target, now_ms)
        of_target = and_(_D.target == target.name, _D.state == DeliveryState.WAITING)
        due = connection.execute(
            select(_D.alert, _D.kind, _D.alone)
            .where(of_target, or_(_D.kind == "raised", ~_raised(target, *_UNSETTLED)))
            .where(or_(_D.kind != "raised", ~_of_silent_alert(now_ms)))
            .order_by(_D.alone, _D.created_at_ms, _D.alert, _D.kind)
            .limit(GROUP_MAX)
        ).all()
        together = [row for row in due if not row.alone] or due[:1]
        if not together:
            _return_lease(connection, target, process, now_ms, 0)
            return []
        keys = [(row.alert, row.kind) for row in together]
        sending = {
            "state": DeliveryState.SENDING,
            "attempts": _D.attempts + 1,
            "claim": process,
            "changed_at_ms": now_ms,
        }
        connection.execute(update(deliveries).where(of_target, _keys(keys)).values(sending))
        return read_notices(connection, keys, link)


def claim_open(
    store: Store, target: NoticeTarget, process: str, link: str, now_ms: int
) -> list[Notice] | None:
    """Take the lease of a target; return the open alerts whose notices it received; None if it is leased already.

    Raises: StoreError.
    """
    with store.transaction() as connection:
        if not _take_lease(connection, target, process, now_ms):
            return None
        received = and_(_D.target == target.name, _D.kind == "raised", _D.state == DeliveryState.SENT)
        query = select(_D.alert, _D.kind).join(alerts, alerts.c.id == _D.alert)
        keys = connection.execute(
            query.where(received, alerts.c.ended_at_ms.is_(None), ~_is_silent(now_ms))
        ).all()
        return read_notices(connection, [(row.alert, row.kind) for row in keys], link)


def settle(
    store: Store,
    target: NoticeTarget,
    process: str,
    sent: Sequence[Notice],
    outcome: AttemptOutcome,
    now_ms: int,
) -> None:
    """Record the outcome of an attempt, and return the lease. Raises: StoreError."""
    with store.transaction() as connection:
        # an update comes first, so that processes wait for each other on SQLite, too
        has_lease = update(notice_targets).where(_T.target == target.name, _T.claim == process)
        failures = connection.scalar(has_lease.values(claim=process).returning(_T.failures))
        if failures is None:
            return
        ours = and_(
            _D.target == target.name,
            _D.state == DeliveryState.SENDING,
            _D.claim == process,
            _keys([(notice.alert, notice.kind) for notice in sent]),
        )
        changed = {
            "claim": None,
            "changed_at_ms": now_ms,
            "problem": outcome.problem[:PROBLEM_CHARACTERS_MAX],
        }
        match outcome.result:
            case AttemptResult.SENT | AttemptResult.UNCERTAIN:
                state, failures = DeliveryState(outcome.result.value), 0
                if state is DeliveryState.UNCERTAIN and target.recognizes_repetitions:
                    state, failures = DeliveryState.WAITING, 1
            case AttemptResult.REFUSED:
                state = DeliveryState.WAITING if len(sent) > 1 else DeliveryState.FAILED
                changed, failures = changed | {"alone": 1}, 0
            case AttemptResult.FAILED:
                state, failures = DeliveryState.WAITING, failures + 1
        if state is DeliveryState.WAITING:
            too_old = and_(ours, _D.created_at_ms <= now_ms - GIVE_UP_MS, _D.attempts >= GIVE_UP_ATTEMPTS)
            connection.execute(
                update(deliveries).where(too_old).values(changed | {"state": DeliveryState.FAILED})
            )
        connection.execute(update(deliveries).where(ours).values(changed | {"state": state}))
        wait_ms = retry_ms(failures) if failures else round(target.interval_s * 1000)
        _return_lease(connection, target, process, now_ms + wait_ms, failures)


def retry_ms(failures: int) -> int:
    """Return the time from the latest of several failed attempts to the next one."""
    return min(RETRY_MS_MIN << min(failures - 1, 16), RETRY_MS_MAX)


_UNSETTLED: Final = (DeliveryState.WAITING, DeliveryState.SENDING)


def _lock(connection: Connection) -> None:
    """Prevent other processes from routing at the same time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(5932448)"))
    else:
        connection.execute(update(notices).where(notices.c.alert == "").values(kind=""))


def _take_lease(connection: Connection, target: NoticeTarget, process: str, now_ms: int) -> bool:
    """Take the lease; the first statement writes, so that processes wait for each other on SQLite, too."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = {"target": target.name, "leased_until_ms": 0, "next_at_ms": 0, "failures": 0}
    connection.execute(dialect.insert(notice_targets).values(new).on_conflict_do_nothing())
    free = and_(_T.target == target.name, _T.leased_until_ms <= now_ms, _T.next_at_ms <= now_ms)
    values = {"claim": process, "leased_until_ms": now_ms + LEASE_MS}
    return connection.execute(update(notice_targets).where(free).values(values)).rowcount == 1


def _return_lease(
    connection: Connection, target: NoticeTarget, process: str, next_at_ms: int, failures: int
) -> None:
    ours = and_(_T.target == target.name, _T.claim == process)
    values = {"claim": None, "leased_until_ms": 0, "next_at_ms": next_at_ms, "failures": failures}
    connection.execute(update(notice_targets).where(ours).values(values))


def _recover(connection: Connection, target: NoticeTarget, now_ms: int) -> None:
    """Decide about attempts of processes that did not record the outcome: their lease has expired."""
    state = DeliveryState.WAITING if target.recognizes_repetitions else DeliveryState.UNCERTAIN
    unfinished = and_(_D.target == target.name, _D.state == DeliveryState.SENDING)
    problem = "the sender ended before it recorded the outcome"
    values = {"state": state, "claim": None, "problem": problem, "changed_at_ms": now_ms}
    connection.execute(update(deliveries).where(unfinished).values(values))


def _skip_needless(connection: Connection, target: NoticeTarget, now_ms: int) -> None:
    """Cancel the notices of the end of alerts whose beginning could not be delivered."""
    resolved = and_(_D.target == target.name, _D.state == DeliveryState.WAITING, _D.kind == "resolved")
    values = {"state": DeliveryState.NEEDLESS, "changed_at_ms": now_ms}
    deliverable = (*_UNSETTLED, DeliveryState.SENT, DeliveryState.UNCERTAIN)
    connection.execute(update(deliveries).where(resolved, ~_raised(target, *deliverable)).values(values))


def _raised(target: NoticeTarget, *states: DeliveryState) -> ColumnElement[bool]:
    """Return whether the delivery that the alert was raised is in one of these states."""
    beginning = deliveries.alias("raised")
    return exists().where(
        beginning.c.alert == _D.alert,
        beginning.c.kind == "raised",
        beginning.c.target == target.name,
        beginning.c.state.in_(states),
    )


def _is_silent(now_ms: int) -> ColumnElement[bool]:
    """Return whether an alert is open and silenced."""
    a = alerts.c
    return and_(a.ended_at_ms.is_(None), func.coalesce(a.silenced_until_ms, 0) > now_ms)


def _was_silent() -> ColumnElement[bool]:
    """Return whether an alert ended while it was silenced."""
    a = alerts.c
    until_ms = func.coalesce(a.silenced_until_ms, 0)
    is_before = or_(a.ended_at_ms <= until_ms, a.resolved_at_ms <= until_ms)
    return and_(a.ended_at_ms.is_not(None), until_ms > 0, is_before)


def _of_silent_alert(now_ms: int) -> ColumnElement[bool]:
    """Return whether a delivery is about an alert that is open and silenced."""
    return exists().where(alerts.c.id == _D.alert, _is_silent(now_ms))


def _keys(keys: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    return tuple_(_D.alert, _D.kind).in_(keys)
