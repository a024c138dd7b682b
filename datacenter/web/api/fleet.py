"""Sites, boxes, instruments and readings for programs."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct
from sqlalchemy import and_, or_, select
from starlette.responses import Response

from datacenter.fleet.boxes import read_box
from datacenter.fleet.completeness import stream_completeness
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.history.archive import history
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import boxes, instruments, sites
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.files.exports import MEDIA, StatusExport
from datacenter.web.parameters import Moment, ParameterError
from datacenter.web.routes import PageRequest, WebRoute

PERIOD_DAYS_MAX: Final = 31
EXPORT_DAYS_MAX: Final = 366
_I: Final = instruments.c
Count = Annotated[int, Meta(ge=0)]


class ListQuery(Struct, frozen=True):
    """Selects a part of a list."""

    limit: Limit = 100
    cursor: Cursor = ""


class InstrumentsQuery(ListQuery, frozen=True):
    """Selects a part of the list of instruments, only those of one site, box or model if given."""

    site: str = ""
    box: str = ""
    model: str = ""


class ReadingsQuery(Struct, frozen=True):
    """Selects a part of the statuses of a period by the instrument's clock; the default is the last day."""

    since_ms: Moment | None = None
    until_ms: Moment | None = None
    limit: Limit = 100
    cursor: Cursor = ""


class ExportQuery(Struct, frozen=True):
    """Selects a period by the instrument's clock; the default is the last day."""

    since_ms: Moment | None = None
    until_ms: Moment | None = None


class ApiSite(Struct, frozen=True):
    """A site; `zone` is a name of the IANA time zone database. Coordinates are in degrees, or null if unknown."""

    site: str
    name: str
    country: str
    region: str
    zone: str
    latitude: float | None
    longitude: float | None


class SiteList(Struct, frozen=True):
    """A part of the list of sites."""

    items: list[ApiSite]
    next: str | None


class BoxItem(Struct, frozen=True):
    """A box in a list."""

    box: str
    site: str | None
    enrolled_at_ms: int
    dismissed_at_ms: int | None


class BoxList(Struct, frozen=True):
    """A part of the list of boxes."""

    items: list[BoxItem]
    next: str | None


class ApiBox(Struct, frozen=True):
    """The state of a box. `stored_at_ms` and `at_ms` are those of its latest record; null before the first one."""

    box: str
    site: str | None
    enrolled_at_ms: int
    dismissed_at_ms: int | None
    stored_at_ms: int | None
    at_ms: int | None
    commands_waiting: int


class ApiInstrument(Struct, frozen=True):
    """An instrument with its latest evaluated status."""

    box: str
    instrument: str
    model: str | None
    site: str | None
    run: int
    number: int
    at_ms: int
    stored_at_ms: int
    state: str | None
    samples: int | None


class InstrumentList(Struct, frozen=True):
    """A part of the list of instruments."""

    items: list[ApiInstrument]
    next: str | None


class ApiStatus(Struct, frozen=True):
    """A status as reported; readings are in the units of the model's profile."""

    run: int
    number: int
    at_ms: int
    state: str
    samples: int
    readings: dict[str, int]


class RunCompleteness(Struct, frozen=True):
    """The report numbers of a run: each from 1 to `last` is stored, lost or missing."""

    run: int
    last: Count
    stored: Count
    lost: Count
    missing: Count


class ReadingList(Struct, frozen=True):
    """A part of the statuses of a period in chronological order, with the completeness of all runs."""

    items: list[ApiStatus]
    next: str | None
    completeness: list[RunCompleteness]


def list_sites(page: PageRequest) -> Response:
    """Return a part of the list of sites, by name."""
    query: ListQuery = page.query
    after = decode_cursor(query.cursor, tuple[str])
    names = [sites.c[name] for name in ApiSite.__struct_fields__]
    wanted = select(*names).where(page.visible.where("Site")).order_by(sites.c.site).limit(query.limit + 1)
    if after:
        wanted = wanted.where(sites.c.site > after[0])
    items = [ApiSite(*row) for row in page.store.read(wanted)]
    return json_response(
        page, SiteList(items[: query.limit], next_cursor(items, query.limit, lambda one: (one.site,)))
    )


def read_site(page: PageRequest) -> Response:
    """Return a site."""
    names = [sites.c[name] for name in ApiSite.__struct_fields__]
    (row,) = page.store.read(select(*names).where(sites.c.site == page.names["site"]))
    return json_response(page, ApiSite(*row))


def list_boxes(page: PageRequest) -> Response:
    """Return a part of the list of boxes, by serial number."""
    query: ListQuery = page.query
    after = decode_cursor(query.cursor, tuple[str])
    columns = (boxes.c.serial, boxes.c.site, boxes.c.enrolled_at_ms, boxes.c.dismissed_at_ms)
    wanted = select(*columns).select_from(PLACED_BOXES).where(page.visible.where("Box"))
    if after:
        wanted = wanted.where(boxes.c.serial > after[0])
    rows = page.store.read(wanted.order_by(boxes.c.serial).limit(query.limit + 1))
    items = [BoxItem(*row) for row in rows]
    return json_response(
        page, BoxList(items[: query.limit], next_cursor(items, query.limit, lambda one: (one.box,)))
    )


def show_box(page: PageRequest) -> Response:
    """Return a box."""
    box = read_box(page.store, page.names["box"])
    times = box.enrolled_at_ms, box.dismissed_at_ms, box.contact_ms, box.reported_ms
    return json_response(page, ApiBox(box.serial, box.site, *times, box.commands_waiting))


def list_instruments(page: PageRequest) -> Response:
    """Return a part of the list of instruments, by box and serial number."""
    query: InstrumentsQuery = page.query
    after = decode_cursor(query.cursor, tuple[str, str])
    wanted = _instruments().where(page.visible.where("Instrument"), boxes.c.dismissed_at_ms.is_(None))
    for column, value in ((boxes.c.site, query.site), (_I.box, query.box), (_I.model, query.model)):
        if value:
            wanted = wanted.where(column == value)
    if after:
        wanted = wanted.where(or_(_I.box > after[0], and_(_I.box == after[0], _I.serial > after[1])))
    rows = page.store.read(wanted.order_by(_I.box, _I.serial).limit(query.limit + 1))
    items = [ApiInstrument(*row) for row in rows]
    key = next_cursor(items, query.limit, lambda one: (one.box, one.instrument))
    return json_response(page, InstrumentList(items[: query.limit], key))


def read_instrument(page: PageRequest) -> Response:
    """Return an instrument."""
    key = and_(_I.box == page.names["box"], _I.serial == page.names["instrument"])
    (row,) = page.store.read(_instruments().where(key))
    return json_response(page, ApiInstrument(*row))


def list_readings(page: PageRequest) -> Response:
    """Return the statuses of a period, read day by day until there are enough for the response."""
    query: ReadingsQuery = page.query
    box, serial = page.names["box"], page.names["instrument"]
    since_ms, until_ms = _period(query, page.now_ms, PERIOD_DAYS_MAX)
    after = decode_cursor(query.cursor, tuple[int, int, int])
    begin_ms = max(since_ms, after[0]) if after else since_ms
    items: list[ApiStatus] = []
    while begin_ms < until_ms and len(items) <= query.limit:
        end_ms = min(until_ms, begin_ms + DAY_MS)
        statuses = [
            ApiStatus(run, one.number, one.at_ms, one.state, one.samples, dict(one.readings))
            for run, one in history(page.store, box, serial, begin_ms, end_ms).reports()
        ]
        statuses.sort(key=_sort_key)
        items += [one for one in statuses if after is None or _sort_key(one) > after]
        begin_ms = end_ms
    runs = [
        RunCompleteness(life.life, life.last, life.stored, life.lost, life.missing.count())
        for life in stream_completeness(page.store, box, serial)
    ]
    return json_response(
        page, ReadingList(items[: query.limit], next_cursor(items, query.limit, _sort_key), runs)
    )


def export_csv(page: PageRequest) -> Response:
    """Return the statuses of a period as CSV."""
    return _export(page).response("csv")


def export_parquet(page: PageRequest) -> Response:
    """Return the statuses of a period as Parquet."""
    return _export(page).response("parquet")


def _export(page: PageRequest) -> StatusExport:
    return StatusExport.of_page(page, *_period(page.query, page.now_ms, EXPORT_DAYS_MAX))


def _period(query: ReadingsQuery | ExportQuery, now_ms: int, days_max: int) -> tuple[int, int]:
    """Return the beginning and the end of a period. Raises: ParameterError."""
    until_ms = now_ms if query.until_ms is None else query.until_ms
    since_ms = max(0, until_ms - DAY_MS) if query.since_ms is None else query.since_ms
    if not since_ms < until_ms:
        raise ParameterError("since_ms: must be before until_ms")
    if until_ms - since_ms > days_max * DAY_MS:
        raise ParameterError(
            f"since_ms: a period has at most {days_max} days; request several shorter periods"
        )
    return since_ms, until_ms


def _sort_key(status: ApiStatus) -> tuple[int, int, int]:
    return status.at_ms, status.run, status.number


def _instruments() -> Any:
    columns = (_I.box, _I.serial, _I.model, boxes.c.site, _I.run, _I.number, _I.at_ms, _I.stored_at_ms)
    tables = instruments.join(PLACED_BOXES, _I.box == boxes.c.serial)
    return select(*columns, _I.state, _I.samples).select_from(tables)


_ONE: Final = f"{PREFIX}/instruments/{{box}}/{{instrument}}"
ROUTES: Final = (
    WebRoute("GET", f"{PREFIX}/sites", "view", "", list_sites, "sites", ListQuery, "api", result=SiteList),
    WebRoute(
        "GET",
        f"{PREFIX}/sites/{{site}}",
        "view",
        "Site",
        read_site,
        "a site",
        response_kind="api",
        result=ApiSite,
    ),
    WebRoute("GET", f"{PREFIX}/boxes", "view", "", list_boxes, "boxes", ListQuery, "api", result=BoxList),
    WebRoute(
        "GET", f"{PREFIX}/boxes/{{box}}", "view", "Box", show_box, "a box", response_kind="api", result=ApiBox
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/instruments",
        "view",
        "",
        list_instruments,
        "instruments",
        InstrumentsQuery,
        "api",
        result=InstrumentList,
    ),
    WebRoute(
        "GET",
        _ONE,
        "view",
        "Instrument",
        read_instrument,
        "an instrument",
        response_kind="api",
        result=ApiInstrument,
    ),
    WebRoute(
        "GET",
        f"{_ONE}/readings",
        "view",
        "Instrument",
        list_readings,
        "statuses of an instrument",
        ReadingsQuery,
        "api",
        result=ReadingList,
    ),
    WebRoute(
        "GET",
        f"{_ONE}/readings.csv",
        "export",
        "Instrument",
        export_csv,
        "statuses of an instrument as CSV",
        ExportQuery,
        "api",
        media="text/csv",
    ),
    WebRoute(
        "GET",
        f"{_ONE}/readings.parquet",
        "export",
        "Instrument",
        export_parquet,
        "statuses of an instrument as Parquet",
        ExportQuery,
        "api",
        media=MEDIA["parquet"],
    ),
)
