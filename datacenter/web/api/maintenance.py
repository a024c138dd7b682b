"""Maintenance windows for programs: the list, and planning and ending a window."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from sqlalchemy import and_, or_
from starlette.responses import Response

from datacenter.fleet.alerts import REASON_CHARACTERS_MAX
from datacenter.maintenance.desk import (
    HOURS_MAX,
    PURPOSE,
    MaintenanceDesk,
    MaintenanceRefusedError,
    WrongWindowError,
)
from datacenter.maintenance.windows import Kind, MaintenanceWindow, WindowState, find_window
from datacenter.store.tables.schema import maintenance
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.parameters import Moment, ParameterError
from datacenter.web.routes import NoParameters, PageRequest, RefusedError, WebRoute

_M: Final = maintenance.c


class ApiWindowsQuery(Struct, frozen=True):
    """Selects a part of the list of windows; windows in the state `current` have not ended."""

    state: Literal["current", "past", "all"] = "current"
    site: str = ""
    box: str = ""
    instrument: str = ""
    limit: Limit = 100
    cursor: Cursor = ""


class NewWindow(Struct, frozen=True):
    """A window to plan; without `from_ms`, it begins now."""

    from_ms: Moment | None = None
    hours: Annotated[int, Meta(ge=1, le=HOURS_MAX)] = 4
    reason: Annotated[
        str, Meta(max_length=REASON_CHARACTERS_MAX, description="what is done, in one line")
    ] = ""


class ApiWindow(Struct, frozen=True):
    """A window from `from_ms` until before `until_ms`. `site` is the box's site; unused fields are empty."""

    window: str
    kind: Kind
    state: WindowState
    site: str
    box: str
    instrument: str
    from_ms: int
    until_ms: int
    covers_critical: bool
    """Whether alerts of the severity "critical" are also silenced."""
    reason: str
    planned_by: str
    planned_at_ms: int
    ended_by: str | None


class WindowList(Struct, frozen=True):
    """A part of the list of windows, the latest beginning first."""

    items: list[ApiWindow]
    next: str | None


def list_windows(page: PageRequest) -> Response:
    """Return a part of the list of windows, the latest beginning first."""
    query: ApiWindowsQuery = page.query
    after = decode_cursor(query.cursor, tuple[int, str])
    chosen = [
        column == value
        for column, value in ((_M.site, query.site), (_M.box, query.box), (_M.instrument, query.instrument))
        if value
    ]
    if query.state != "all":
        is_current = query.state == "current"
        chosen.append(_M.until_ms > page.now_ms if is_current else _M.until_ms <= page.now_ms)
    if after:
        from_ms, identity = after
        chosen.append(or_(_M.from_ms < from_ms, and_(_M.from_ms == from_ms, _M.id > identity)))
    rows = _desk(page).list(page.staff, page.now_ms, chosen, query.limit + 1)
    items = [_item(row, page.now_ms) for row in rows]
    following = next_cursor(items, query.limit, lambda one: (one.from_ms, one.window))
    return json_response(page, WindowList(items[: query.limit], following))


def show_window(page: PageRequest) -> Response:
    """Return a window."""
    window = find_window(page.store, page.names["window"])
    assert window is not None, "the access check has found it"
    return json_response(page, _item(window, page.now_ms))


def plan_window(page: PageRequest) -> Response:
    """Plan a window of the site, box or instrument that the path names, and return it."""
    form: NewWindow = page.query
    kind: Kind = "site" if "site" in page.names else "instrument" if "instrument" in page.names else "box"
    site, box, instrument = (page.names.get(name, "") for name in ("site", "box", "instrument"))
    from_ms = page.now_ms if form.from_ms is None else form.from_ms
    times_ms = from_ms, from_ms + form.hours * 3_600_000
    try:
        window = _desk(page).plan(
            page.staff, kind, (site, box, instrument), times_ms, form.reason, page.now_ms
        )
    except WrongWindowError as error:
        raise ParameterError(str(error)) from error
    except MaintenanceRefusedError as error:
        raise RefusedError(str(error)) from error
    return json_response(page, _item(window, page.now_ms))


def end_window(page: PageRequest) -> Response:
    """End a window, or cancel it before it begins, and return it. A window that has ended is returned unchanged."""
    try:
        window = _desk(page).end(page.staff, page.names["window"], page.now_ms)
    except WrongWindowError:
        return show_window(page)
    except MaintenanceRefusedError as error:
        raise RefusedError(str(error)) from error
    return json_response(page, _item(window, page.now_ms))


def _desk(page: PageRequest) -> MaintenanceDesk:
    return MaintenanceDesk(page.store, page.access, page.visible.purpose)


def _item(window: MaintenanceWindow, now_ms: int) -> ApiWindow:
    return ApiWindow(
        window.id,
        window.kind,
        window.state(now_ms),
        window.site,
        window.box,
        window.instrument,
        window.from_ms,
        window.until_ms,
        bool(window.covers_critical),
        window.reason,
        window.planned_by,
        window.planned_at_ms,
        window.ended_by,
    )


def _planning(path: str, kind: str) -> WebRoute:
    """Return the row that plans a window of one kind. MaintenanceDesk checks and records the right to silence."""
    return WebRoute(
        "POST",
        f"{PREFIX}{path}/maintenance",
        "view",
        kind,
        plan_window,
        "plan maintenance",
        NewWindow,
        "api",
        PURPOSE,
        ApiWindow,
    )


ROUTES: Final = (
    WebRoute(
        "GET",
        f"{PREFIX}/maintenance",
        "view",
        "",
        list_windows,
        "maintenance windows",
        ApiWindowsQuery,
        "api",
        result=WindowList,
    ),
    WebRoute(
        "GET",
        f"{PREFIX}/maintenance/{{window}}",
        "view",
        "Maintenance",
        show_window,
        "a maintenance window",
        response_kind="api",
        result=ApiWindow,
    ),
    WebRoute(
        "POST",
        f"{PREFIX}/maintenance/{{window}}/end",
        "view",
        "Maintenance",
        end_window,
        "end or cancel maintenance",
        NoParameters,
        "api",
        PURPOSE,
        ApiWindow,
    ),
    _planning("/sites/{site}", "Site"),
    _planning("/boxes/{box}", "Box"),
    _planning("/instruments/{box}/{instrument}", "Instrument"),
)
