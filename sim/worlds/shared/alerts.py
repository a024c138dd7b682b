"""The alerts of the data center's triggers, read from its database at the end of a lab."""

from __future__ import annotations

from sqlalchemy import select

from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts
from sim.units import MILLISECOND_NS
from sim.verdict.result import RaisedAlert


def raised_alerts(store: Store, epoch_ms: int) -> list[RaisedAlert]:
    """Return all alerts in the order in which they were raised; `epoch_ms` is the start of the lab in ms since 1970.

    Raises: StoreError.
    """
    c = alerts.c
    columns = (c.trigger, c.instrument, c.box, c.began_at_ms, c.raised_at_ms, c.ended_at_ms)
    rows = store.read(select(*columns).order_by(c.raised_at_ms, c.trigger, c.box, c.instrument))
    return [
        RaisedAlert(
            trigger=trigger,
            source=instrument or box,
            began_ns=(began_ms - epoch_ms) * MILLISECOND_NS,
            raised_ns=(raised_ms - epoch_ms) * MILLISECOND_NS,
            ended_ns=None if ended_ms is None else (ended_ms - epoch_ms) * MILLISECOND_NS,
        )
        for trigger, instrument, box, began_ms, raised_ms, ended_ms in rows
    ]
