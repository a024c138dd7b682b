"""Maintenance: the list of windows, and the form that plans or ends a window."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.fleet.alerts import REASON_CHARACTERS_MAX
from datacenter.maintenance.desk import (
    HOURS_MAX,
    LISTED_MAX,
    PURPOSE,
    MaintenanceDesk,
    MaintenanceRefusedError,
    WrongWindowError,
)
from datacenter.maintenance.windows import Kind, find_subject
from datacenter.web.pages.page import address, show
from datacenter.web.parameters import ParameterError
from datacenter.web.responses import redirect
from datacenter.web.routes import PageRequest, RefusedError, WebRoute

PATH: Final = "/maintenance"


class MaintenanceQuery(Struct, frozen=True):
    """The scope of the window that the form plans: a site, a box, or an instrument behind a box."""

    site: Annotated[str, Meta(max_length=64)] = ""
    box: Annotated[str, Meta(max_length=64)] = ""
    instrument: Annotated[str, Meta(max_length=64)] = ""

    @property
    def kind(self) -> Kind:
        """The kind of the window."""
        return "site" if not self.box else "instrument" if self.instrument else "box"

    @property
    def names(self) -> tuple[str, str, str]:
        """Site, box and instrument."""
        return self.site, self.box, self.instrument


class WindowForm(Struct, frozen=True):
    """A window to plan, or the id of a window to end. `begins` is in the time zone of the staff member."""

    begins: Annotated[str, Meta(max_length=20)] = ""
    hours: Annotated[int, Meta(ge=1, le=HOURS_MAX)] = 4
    reason: Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)] = ""
    window: Annotated[str, Meta(max_length=20)] = ""


def maintenance(page: PageRequest) -> Response:
    """Serve the list of windows, and the form."""
    query: MaintenanceQuery = page.query
    desk = _desk(page)
    resource = find_subject(page.store, query.kind, query.names)
    is_seen = resource is not None and page.permits("view", resource)
    now = datetime.fromtimestamp(page.now_ms / 1000, ZoneInfo(page.entry.zone))
    windows = desk.list(page.staff, page.now_ms)
    return show(
        page,
        "maintenance.html",
        query=query,
        about=f"{query.kind} {query.instrument or query.box or query.site}" if is_seen else "",
        may_plan=resource is not None
        and is_seen
        and desk.may_plan(page.staff, query.kind, resource, page.now_ms),
        begins=f"{now:%Y-%m-%dT%H:%M}",
        hours_max=HOURS_MAX,
        windows=windows,
        is_cut=len(windows) == LISTED_MAX,
    )


def change(page: PageRequest) -> Response:
    """Plan a window of the site, box or instrument that the path names, or end the window of the form."""
    form: WindowForm = page.query
    query = MaintenanceQuery(*(page.names.get(name, "") for name in ("site", "box", "instrument")))
    desk = _desk(page)
    try:
        if form.window:
            desk.end(page.staff, form.window, page.now_ms)
        else:
            begins_ms = _moment_ms(form.begins, page)
            times_ms = begins_ms, begins_ms + form.hours * 3_600_000
            desk.plan(page.staff, query.kind, query.names, times_ms, form.reason, page.now_ms)
    except WrongWindowError as error:
        raise ParameterError(str(error)) from error
    except MaintenanceRefusedError as error:
        raise RefusedError(str(error)) from error
    return redirect(address(PATH, query))


def _moment_ms(text: str, page: PageRequest) -> int:
    if not text:
        return page.now_ms
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        raise ParameterError(f"begins: {text!r}: give a time such as 2026-03-01T08:00") from None
    if local.tzinfo is None:
        local = local.replace(tzinfo=ZoneInfo(page.entry.zone))
    return round(local.timestamp() * 1000)


def _desk(page: PageRequest) -> MaintenanceDesk:
    return MaintenanceDesk(page.store, page.access)


def _form(path: str, kind: str) -> WebRoute:
    """Return the row of the form of one kind. MaintenanceDesk checks and records the right to silence."""
    return WebRoute(
        "POST",
        f"{path}/maintenance",
        "view",
        kind,
        change,
        "plan or end maintenance",
        WindowForm,
        "form",
        PURPOSE,
    )


ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", maintenance, "maintenance", MaintenanceQuery),
    _form("/sites/{site}", "Site"),
    _form("/boxes/{box}", "Box"),
    _form("/instruments/{box}/{instrument}", "Instrument"),
)
