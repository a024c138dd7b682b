"""The past of a fleet in a data center's database.

The past of each box is written to a separate database, so that several processes can do it: the older past by
`sim.fleet.archived`, the last day by the data center's own ingest and evaluation. `merge` then copies its rows: no
two boxes have a row in common.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy import insert, update

from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.history.archive import archive
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, sites
from sim.fleet.archived import write_archived
from sim.fleet.box import FleetBox
from sim.fleet.places import PLACES
from sim.fleet.plan import PlannedBox
from sim.units import DAY_NS, HOUR_NS, MILLISECOND_NS, MINUTE_NS

STEP_NS: Final = 6 * HOUR_NS
"""Period whose reports are sent and evaluated together."""
LAST_STEP_NS: Final = 30 * MINUTE_NS
"""The step on the last day, so that the latest reports are stored soon after they were made."""
ROWS_DAYS: Final = 1
"""The number of last days whose statuses remain rows; older ones are in chunks."""
_BOX_TABLES: Final = (
    "records",
    "coverage",
    "instruments",
    "evaluated",
    "alerts",
    "notices",
    "chunks",
    "changed_days",
    "silence_state",
)
"""Tables whose rows belong to one box."""


def write_past(box: FleetBox, file: Path, triggers: TriggerSet, start_ms: int, end_ns: int) -> None:
    """Write all data that a box sent until `end_ns` to a new SQLite database. Raises: StoreError."""
    store = Store(f"sqlite:///{file}", durable=False)
    try:
        serial = box.plan.serial
        store.authorize([serial], start_ms)
        evaluator = Evaluator(store, triggers)
        now_ns = _archived_until_ns(box.plan, end_ns)
        write_archived(store, box.until(now_ns), triggers)
        while now_ns < end_ns:
            step_ns = LAST_STEP_NS if now_ns >= end_ns - DAY_NS else STEP_NS
            now_ns = min(now_ns + step_ns, end_ns)
            now_ms = start_ms + now_ns // MILLISECOND_NS
            for received in box.until(now_ns):
                store.ingest(received.box, received.batch, received.at_ms)
                now_ms = max(now_ms, received.at_ms)
            evaluator.advance(serial, now_ms)
        archive(store, start_ms + (end_ns - ROWS_DAYS * DAY_NS) // MILLISECOND_NS)
    finally:
        store.close()


def _archived_until_ns(plan: PlannedBox, end_ns: int) -> int:
    """Return when the older past ends: ROWS_DAYS before the end, or at the beginning of an outage at that time."""
    until_ns = max(0, end_ns - ROWS_DAYS * DAY_NS)
    return next(
        (outage.since_ns for outage in plan.outages if outage.since_ns <= until_ns < outage.until_ns),
        until_ns,
    )


def create_fleet(store: Store, plan: Sequence[PlannedBox], start_ms: int) -> None:
    """Enter sites and boxes into an empty store. Raises: StoreError."""
    store.authorize([box.serial for box in plan], start_ms)
    used = {box.place for box in plan}
    with store.transaction() as connection:
        connection.execute(insert(sites), [place._asdict() for place in PLACES if place in used])
        for box in plan:
            connection.execute(update(boxes).where(boxes.c.serial == box.serial).values(site=box.place.site))


def merge(database: Path, part: Path) -> None:
    """Copy the rows of a box's database into the data center's database. Raises: sqlite3.Error."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ATTACH ? AS part", (str(part),))
        with connection:
            connection.execute("DELETE FROM part.silence_state WHERE box = ''")  # the row of the data center
            for table in _BOX_TABLES:
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM part.{table}")  # noqa: S608
