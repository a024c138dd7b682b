"""The list of instruments with their health, and the counts by site and health."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Select, and_, case, func, select

from datacenter.fleet.visible import PLACED_BOXES, Visibility, matching
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, instruments, sites

Health: TypeAlias = Literal["critical", "error", "silent", "warning", "ok"]
"""The severity of the worst open alert, or "silent", which ranks between error and warning. The worst comes first."""
HEALTHS: Final[tuple[Health, ...]] = get_args(Health)
SILENT_MS: Final = 15 * 60_000
"""Time without a stored report after which an instrument counts as silent."""
PAGE_SIZE: Final = 50

_I: Final = instruments.c
_RANKS: Final = {"critical": 3, "error": 2, "warning": 1}


class FleetFilter(Struct, frozen=True):
    """Selects instruments; an empty field selects all. `q` is part of a serial number, model, box or site.

    `area` is "west,south,east,north" in degrees; the coordinates of the site must be in it.
    """

    q: str = ""
    region: str = ""
    site: str = ""
    model: str = ""
    health: Health | Literal[""] = ""
    area: str = ""

    def __post_init__(self) -> None:
        if self.area:
            parse_area(self.area)


class GeographicArea(NamedTuple):
    """Limits of coordinates, in degrees."""

    west: float
    south: float
    east: float
    north: float


def parse_area(text: str) -> GeographicArea:
    """Parse "west,south,east,north". Raises: ValueError."""
    try:
        area = GeographicArea(*map(float, text.split(",")))
    except (ValueError, TypeError):
        area = GeographicArea(0, 0, 0, 0)
    if not (-181 <= area.west < area.east <= 181 and -91 <= area.south < area.north <= 91):
        raise ValueError(f"area {text[:60]!r}: give west,south,east,north in degrees, such as -10.5,35,30,60")
    return area


class InstrumentRow(NamedTuple):
    """An instrument in a list; the site's fields are None if the site of the box is unknown."""

    box: str
    serial: str
    model: str | None
    state: str | None
    samples: int | None
    at_ms: int
    stored_at_ms: int
    site: str | None
    site_name: str | None
    region: str | None
    zone: str | None
    health: Health
    alert_count: int


class SiteRow(NamedTuple):
    """A site in a list, with the number of its instruments by health."""

    site: str
    name: str
    country: str
    region: str
    latitude: float | None
    longitude: float | None
    counts: dict[Health, int]

    @property
    def total(self) -> int:
        """The number of instruments."""
        return sum(self.counts.values())

    @property
    def worst(self) -> int:
        """The position in HEALTHS of the worst health at the site."""
        return min((HEALTHS.index(health) for health, count in self.counts.items() if count), default=9)


class Choices(NamedTuple):
    """The values that the filters can have, each with its text."""

    regions: list[tuple[str, str]]
    sites: list[tuple[str, str]]
    models: list[tuple[str, str]]


class _Fleet:
    """The joined tables, with the health of each instrument."""

    def __init__(self, visible: Visibility) -> None:
        rank = case(*((alerts.c.severity == name, number) for name, number in _RANKS.items()), else_=0)
        key = (alerts.c.box, alerts.c.instrument)
        open_alerts = (
            select(*key, func.max(rank).label("rank"), func.count().label("alert_count"))
            .where(alerts.c.ended_at_ms.is_(None))
            .group_by(*key)
            .subquery()
        )
        is_silent = _I.stored_at_ms < visible.now_ms - SILENT_MS
        self.health: ColumnElement[str] = case(
            (open_alerts.c.rank == _RANKS["critical"], "critical"),
            (open_alerts.c.rank == _RANKS["error"], "error"),
            (is_silent, "silent"),
            (open_alerts.c.rank == _RANKS["warning"], "warning"),
            else_="ok",
        )
        self.alert_count: ColumnElement[int] = func.coalesce(open_alerts.c.alert_count, 0)
        of_instrument = and_(open_alerts.c.box == _I.box, open_alerts.c.instrument == _I.serial)
        self._tables = instruments.join(PLACED_BOXES, _I.box == boxes.c.serial).outerjoin(
            open_alerts, of_instrument
        )
        self._seen = and_(visible.where("Instrument"), boxes.c.dismissed_at_ms.is_(None))

    def select(self, wanted: FleetFilter, *columns: Any) -> Select[Any]:
        query = select(*columns).select_from(self._tables).where(self._seen)
        if wanted.region:
            query = query.where(sites.c.region == wanted.region)
        if wanted.site:
            query = query.where(boxes.c.site == wanted.site)
        if wanted.model:
            query = query.where(_I.model == wanted.model)
        if wanted.health:
            query = query.where(self.health == wanted.health)
        if wanted.area:
            area = parse_area(wanted.area)
            query = query.where(
                sites.c.longitude.between(area.west, area.east),
                sites.c.latitude.between(area.south, area.north),
            )
        named = (_I.serial, _I.model, _I.box, sites.c.name, boxes.c.site)
        return query.where(matching(wanted.q, *named))


def list_instruments(
    store: Store, visible: Visibility, wanted: FleetFilter, page: int
) -> list[InstrumentRow]:
    """Return a page of instruments (the first is 1), the worst health first."""
    query = _ordered_instruments(visible, wanted).limit(PAGE_SIZE).offset((page - 1) * PAGE_SIZE)
    return [InstrumentRow(*row) for row in store.read(query)]


def all_instruments(store: Store, visible: Visibility, wanted: FleetFilter) -> Iterator[InstrumentRow]:
    """Return all instruments, the worst health first."""
    return (InstrumentRow(*row) for row in store.read(_ordered_instruments(visible, wanted)))


def _ordered_instruments(visible: Visibility, wanted: FleetFilter) -> Select[Any]:
    fleet = _Fleet(visible)
    order = case(*((fleet.health == name, rank) for rank, name in enumerate(HEALTHS)))
    columns = (_I.box, _I.serial, _I.model, _I.state, _I.samples, _I.at_ms, _I.stored_at_ms)
    location = (boxes.c.site, sites.c.name, sites.c.region, sites.c.zone)
    query = fleet.select(wanted, *columns, *location, fleet.health, fleet.alert_count)
    return query.order_by(order, _I.serial, _I.box)


def list_sites(store: Store, visible: Visibility, wanted: FleetFilter) -> list[SiteRow]:
    """Return the sites with instruments, by region; within a region the worst health first."""
    fleet = _Fleet(visible)
    location = (
        sites.c.site,
        sites.c.name,
        sites.c.country,
        sites.c.region,
        sites.c.latitude,
        sites.c.longitude,
    )
    query = fleet.select(wanted, *location, fleet.health, func.count()).where(sites.c.site.is_not(None))
    counts: defaultdict[tuple[Any, ...], dict[Health, int]] = defaultdict(dict)
    for *columns, health, count in store.read(query.group_by(*location, fleet.health)):
        counts[tuple(columns)][health] = count
    rows = [SiteRow._make((*columns, of_health)) for columns, of_health in counts.items()]
    return sorted(rows, key=lambda site: (site.region, site.worst, site.name))


def count_health(store: Store, visible: Visibility, wanted: FleetFilter) -> dict[Health, int]:
    """Return the number of instruments by health, regardless of the health that `wanted` selects."""
    fleet = _Fleet(visible)
    every = msgspec.structs.replace(wanted, health="")
    counts = Counter(dict.fromkeys(HEALTHS, 0))
    for health, count in store.read(fleet.select(every, fleet.health, func.count()).group_by(fleet.health)):
        counts[health] += count
    return dict(counts)


def list_choices(store: Store, visible: Visibility) -> Choices:
    """Return the values of the filters that select at least one instrument."""
    columns = (sites.c.region, sites.c.site, sites.c.name, _I.model)
    rows = list(store.read(_Fleet(visible).select(FleetFilter(), *columns).distinct()))
    return Choices(
        _texts((row.region, row.region) for row in rows),
        _texts((row.site, row.name) for row in rows),
        _texts((row.model, row.model) for row in rows),
    )


def _texts(pairs: Iterable[tuple[str | None, str | None]]) -> list[tuple[str, str]]:
    texts = {value: text or value for value, text in pairs if value}
    return sorted(texts.items(), key=lambda pair: (pair[1].lower(), pair[0]))
