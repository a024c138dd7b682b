"""Figures of the whole data center, read from its database: the same in each of its processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, get_args

from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection, and_, func, select, text

from datacenter.monitoring.metrics import gauge, gauges
from datacenter.notices.outbox import DeliveryState
from datacenter.store.batches.coverage import BOX_STREAM
from datacenter.store.command_states import FINAL, STATES
from datacenter.store.store import Store
from datacenter.store.tables.schema import (
    alerts,
    boxes,
    commands,
    coverage,
    deliveries,
    evaluated,
    notices,
    records,
)
from settings.profile import Severity

OPEN_STATES: Final = tuple(state for state in STATES if state not in FINAL)
_SIZE: Final = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}


class Figures(NamedTuple):
    """Figures that were read at the same time."""

    boxes: int
    open_alerts: dict[tuple[str, ...], float]
    """By severity."""
    deliveries: dict[tuple[str, ...], float]
    """By target and state."""
    unrouted_notices: int
    oldest_delivery_s: float
    """Age of the oldest delivery that is neither sent nor given up."""
    commands: dict[tuple[str, ...], float]
    """By state, without the final ones."""
    unevaluated_records: int
    bytes: int


def read_figures(store: Store, now_ms: int) -> Figures:
    """Read the figures, in one transaction of each database. Raises: StoreError."""
    unevaluated, size = _of_reports(store)
    with store.transaction() as connection:
        d, n, a, c = deliveries.c, notices.c, alerts.c, commands.c
        severities = _counted(connection, (a.severity,), a.ended_at_ms.is_(None))
        states = _counted(connection, (c.state,), c.state.in_(OPEN_STATES))
        oldest = select(func.min(d.created_at_ms)).where(
            d.state.in_((DeliveryState.WAITING, DeliveryState.SENDING))
        )
        oldest_ms = connection.scalar(oldest)
        unrouted = select(func.count()).where(n.routed_at_ms.is_(None))
        authorized = select(func.count()).where(boxes.c.dismissed_at_ms.is_(None))
        return Figures(
            boxes=connection.scalar(authorized) or 0,
            open_alerts={(name,): 0.0 for name in get_args(Severity)} | severities,
            deliveries=_of_targets(_counted(connection, (d.target, d.state))),
            unrouted_notices=connection.scalar(unrouted) or 0,
            oldest_delivery_s=0.0 if oldest_ms is None else max(now_ms - oldest_ms, 0) / 1000,
            commands={(state,): 0.0 for state in OPEN_STATES} | states,
            unevaluated_records=unevaluated,
            bytes=size,
        )


def _counted(connection: Connection, columns: Iterable[Any], *where: Any) -> dict[tuple[str, ...], float]:
    """Return the number of rows by the values of some columns."""
    key = tuple(columns)
    rows = connection.execute(select(*key, func.count()).where(*where).group_by(*key))
    return {tuple(values): float(count) for *values, count in rows}


def _of_targets(counted: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Add the states in which a target has no delivery."""
    targets = sorted({target for target, _ in counted})
    none = {(target, state.value): 0.0 for target in targets for state in DeliveryState}
    return none | counted


def _of_reports(store: Store) -> tuple[int, int]:
    """Return the number of records that are not evaluated yet, and the size in bytes, of all databases."""
    unevaluated = size = 0
    for part in store.parts:
        with part.transaction() as connection:
            unevaluated += _unevaluated(connection)
            size += int(connection.scalar(text(_SIZE[connection.dialect.name])) or 0)
    return unevaluated, size


def _unevaluated(connection: Connection) -> int:
    """Return the number of stored records that are not evaluated yet; the query reads only these records."""
    r, c, e = records.c, coverage.c, evaluated.c
    tables = coverage.outerjoin(evaluated, and_(e.box == c.box, e.epoch == c.life)).join(
        records,
        and_(r.box == c.box, r.epoch == c.life, r.sequence > func.coalesce(e.sequence, 0)),
    )
    query = select(func.sum(r.record_count)).select_from(tables).where(c.stream == BOX_STREAM)
    return int(connection.scalar(query) or 0)


def families(figures: Figures | None) -> Iterator[Metric]:
    """Yield the metrics of the figures; without figures, only the metric that states their absence."""
    yield gauge(
        "rap_database_up", "Whether the database answered the latest queries.", float(figures is not None)
    )
    if figures is None:
        return
    yield gauge("rap_boxes", "Authorized boxes.", figures.boxes)
    yield gauges("rap_open_alerts", "Open alerts by severity.", ["severity"], figures.open_alerts)
    text = "Deliveries of notices by target and state: waiting, sending, sent, failed, uncertain, needless."
    yield gauges("rap_notice_deliveries", text, ["target", "state"], figures.deliveries)
    yield gauge("rap_notices_unrouted", "Notices without deliveries yet.", figures.unrouted_notices)
    text = "Age of the oldest delivery of a notice that is neither sent nor given up."
    yield gauge("rap_notice_oldest_pending_seconds", text, figures.oldest_delivery_s)
    yield gauges("rap_commands", "Commands that have not ended, by state.", ["state"], figures.commands)
    text = "Stored records that are not evaluated yet, including records whose predecessors are missing."
    yield gauge("rap_unevaluated_records", text, figures.unevaluated_records)
    yield gauge("rap_store_size_bytes", "Size of the databases.", figures.bytes)
