"""The part of the installed base that a member of the staff may see: the instruments that the policies permit.

The global, regional or national sum is used if all of its instruments of the model are permitted. Other
permitted instruments are added one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, case, false, func, or_, select

from datacenter.access.vocabulary import EVERYWHERE, location
from datacenter.base.histogram import decode_histogram, decode_readings
from datacenter.base.percentiles import BaseDay, added_days, shown
from datacenter.fleet.visible import PLACED_BOXES, Visibility
from datacenter.store.store import Store
from datacenter.store.tables.schema import base_days, base_instruments, boxes, instruments, sites

_TABLES: Final = instruments.join(PLACED_BOXES, instruments.c.box == boxes.c.serial)
_Days = dict[str, dict[int, BaseDay]]


@dataclass(frozen=True)
class PermittedBase:
    """The locations whose sums may be seen, and the permitted instruments at other locations, for one model."""

    model: str
    instruments: int
    """The instruments of the model that may be seen."""
    locations: tuple[str, ...]
    others: ColumnElement[bool]
    """The WHERE clause of instruments at other locations."""


@dataclass(frozen=True)
class _Group:
    """The instruments of a model in one country and region, and how many of them may be seen."""

    country: str | None
    region: str | None
    total: int
    permitted: int


def permitted_bases(store: Store, visible: Visibility, model: str = "") -> dict[str, PermittedBase]:
    """Return the permitted base by model, or of the given model; only models with an instrument.

    Raises: StoreError.
    """
    permitted = func.sum(case((visible.where("Instrument"), 1), else_=0))
    c = instruments.c
    query = (
        select(c.model, sites.c.country, sites.c.region, func.count(), permitted)
        .select_from(_TABLES)
        .where(c.model == model if model else c.model.is_not(None))
        .group_by(c.model, sites.c.country, sites.c.region)
        .order_by(c.model, sites.c.region, sites.c.country)
    )
    groups: defaultdict[str, list[_Group]] = defaultdict(list)
    for name, country, region, total, count in store.read(query):
        groups[name].append(_Group(country, region, total, count))
    bases = {name: _permitted(name, of_model, visible) for name, of_model in groups.items()}
    return {name: base for name, base in bases.items() if base.instruments}


def _permitted(model: str, groups: Sequence[_Group], visible: Visibility) -> PermittedBase:
    count = sum(group.permitted for group in groups)
    if all(group.permitted == group.total for group in groups):
        return PermittedBase(model, count, (EVERYWHERE,), false())
    locations: list[str] = []
    remaining = list(groups)
    for level in ("region", "country"):
        for name in sorted(
            {name_at_level for group in remaining if (name_at_level := getattr(group, level))}
        ):
            own = [group for group in groups if getattr(group, level) == name]
            if all(group in remaining and group.permitted == group.total for group in own):
                locations.append(location(level, name))
                remaining = [group for group in remaining if group not in own]
    partial = [
        and_(_equal(sites.c.country, group.country), _equal(sites.c.region, group.region))
        for group in remaining
        if group.permitted
    ]
    others = and_(visible.where("Instrument"), or_(*partial)) if partial else false()
    return PermittedBase(model, count, tuple(locations), others)


def _equal(column: ColumnElement[str], value: str | None) -> ColumnElement[bool]:
    return column.is_(None) if value is None else column == value


def visible_days(store: Store, base: PermittedBase, days: range, reading: str = "") -> _Days:
    """Return the days with enough instruments, by reading or of one reading. Raises: StoreError."""
    parts: defaultdict[str, defaultdict[int, list[BaseDay]]] = defaultdict(lambda: defaultdict(list))
    c = base_days.c
    sums = (
        select(c.reading, c.day, c.instruments, c.body)
        .where(c.model == base.model, c.place.in_(base.locations), c.day >= days.start, c.day < days.stop)
        .order_by(c.reading, c.day)
    )
    for name, day, count, body in store.read(sums.where(c.reading == reading) if reading else sums):
        parts[name][day].append(BaseDay(count, decode_histogram(body)))
    d = base_instruments.c
    key = and_(d.box == instruments.c.box, d.instrument == instruments.c.serial)
    singles = (
        select(d.day, d.body)
        .select_from(_TABLES.join(base_instruments, key))
        .where(d.model == base.model, d.day >= days.start, d.day < days.stop, base.others)
        .order_by(d.day)
    )
    for day, body in store.read(singles):
        for name, histogram in decode_readings(body).items():
            if name == reading or not reading:
                parts[name][day].append(BaseDay(1, histogram))
    return {
        name: shown({day: added_days(of_day) for day, of_day in by_day.items()})
        for name, by_day in parts.items()
    }
