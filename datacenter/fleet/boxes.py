"""A box: its connection, completeness, gaps and latest audit events."""

from __future__ import annotations

from typing import Final, NamedTuple, get_args

from sqlalchemy import and_, func, select

from datacenter.fleet.visible import PLACED_BOXES, Visibility
from datacenter.store.batches.coverage import BOX_STREAM
from datacenter.store.command_states import SENT
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, commands, coverage, evaluated, instruments, records, sites
from wire.messages import BoxReport, decode

EVENTS_MAX: Final = 50
LATE_MS: Final = 5 * 60_000
"""A report that arrives later than this after its creation was in the backlog of the box."""
_R: Final = records.c
_EVENT_KINDS: Final = {str(kind.__struct_config__.tag): kind for kind in get_args(BoxReport)}


class BoxRow(NamedTuple):
    """A box in a list."""

    serial: str
    enrolled_at_ms: int
    dismissed_at_ms: int | None
    instrument_count: int
    stored_at_ms: int | None


class LatestBoxState(NamedTuple):
    """The latest state of a box. Times are None before its first record."""

    serial: str
    site: str | None
    site_name: str | None
    zone: str | None
    enrolled_at_ms: int
    dismissed_at_ms: int | None
    contact_ms: int | None
    """The time at which its latest record was stored."""
    reported_ms: int | None
    """The time in that record, by the clock of the box or instrument that made it."""
    epoch: int | None
    sequence: int | None
    evaluated_sequence: int | None
    commands_waiting: int

    @property
    def delay_ms(self) -> int | None:
        """The time between making and storing the latest record; long while the box sends a backlog."""
        if self.contact_ms is None or self.reported_ms is None:
            return None
        return self.contact_ms - self.reported_ms


def list_boxes(store: Store, visible: Visibility, site: str) -> list[BoxRow]:
    """Return the boxes at a site, by serial number."""
    query = (
        select(
            boxes.c.serial,
            boxes.c.enrolled_at_ms,
            boxes.c.dismissed_at_ms,
            func.count(instruments.c.serial),
            func.max(instruments.c.stored_at_ms),
        )
        .select_from(PLACED_BOXES.outerjoin(instruments, instruments.c.box == boxes.c.serial))
        .where(boxes.c.site == site, visible.where("Box"))
        .group_by(boxes.c.serial, boxes.c.enrolled_at_ms, boxes.c.dismissed_at_ms)
        .order_by(boxes.c.serial)
    )
    return [BoxRow(*row) for row in store.read(query)]


def read_box(store: Store, box: str) -> LatestBoxState:
    """Return the state of a box that exists."""
    waiting = (
        select(func.count())
        .where(commands.c.box == boxes.c.serial, commands.c.state.in_(SENT))
        .scalar_subquery()
    )
    columns = (boxes.c.serial, boxes.c.site, sites.c.name, sites.c.zone)
    times = (boxes.c.enrolled_at_ms, boxes.c.dismissed_at_ms)
    query = select(*columns, *times, waiting).select_from(PLACED_BOXES).where(boxes.c.serial == box)
    *known, waiting_count = next(store.read(query))
    seen = _latest_record(store, box)
    position = and_(evaluated.c.box == box, evaluated.c.epoch == seen[2])
    (evaluated_sequence,) = next(store.read(select(evaluated.c.sequence).where(position)), (None,))
    return LatestBoxState._make([*known, *seen, evaluated_sequence, waiting_count])


def _latest_record(store: Store, box: str) -> tuple[int | None, int | None, int | None, int | None]:
    """Return storage time, time, epoch and sequence number of the last record of the most recent epoch.

    The numbers of epochs are random; their order has no meaning.
    """
    lives = select(coverage.c.life).where(coverage.c.box == box, coverage.c.stream == BOX_STREAM)
    columns = (_R.stored_at_ms, _R.at_ms, _R.epoch, _R.sequence)
    latest = []
    part = store.of(box)
    for (epoch,) in list(part.read(lives)):
        of_epoch = select(*columns).where(_R.box == box, _R.epoch == epoch)
        latest += [tuple(row) for row in part.read(of_epoch.order_by(_R.sequence.desc()).limit(1))]
    return max(latest, default=(None, None, None, None))


def list_events(store: Store, box: str) -> list[BoxReport]:
    """Return the latest records of the box about itself, the latest first."""
    of_box = and_(_R.box == box, _R.instrument == "", _R.kind.in_(sorted(_EVENT_KINDS)))
    query = select(_R.kind, _R.body).where(of_box).order_by(_R.at_ms.desc(), _R.sequence.desc())
    rows = store.of(box).read(query.limit(EVENTS_MAX))
    return [decode(_EVENT_KINDS[kind], body) for kind, body in rows]


def list_instruments_of_box(store: Store, visible: Visibility, box: str) -> list[tuple[str, str | None, int]]:
    """Return serial number, model and time of the latest status of each instrument of a box."""
    query = (
        select(instruments.c.serial, instruments.c.model, instruments.c.stored_at_ms)
        .select_from(instruments.join(PLACED_BOXES, instruments.c.box == boxes.c.serial))
        .where(instruments.c.box == box, visible.where("Instrument"))
        .order_by(instruments.c.serial)
    )
    return [(serial, model, stored_at_ms) for serial, model, stored_at_ms in store.read(query)]
