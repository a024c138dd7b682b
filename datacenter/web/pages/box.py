"""A box: connection, delay, completeness, gaps and audit events."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from starlette.responses import Response

from datacenter.fleet.boxes import LATE_MS, list_events, list_instruments_of_box, read_box
from datacenter.fleet.completeness import is_of_box, stream_completeness
from datacenter.fleet.instruments import SILENT_MS
from datacenter.web.pages.page import show
from datacenter.web.routes import PageRequest, WebRoute
from wire.messages import Audit, BoxReport, Gap, LogLine, ProfileInForce, UpdateStep

RANGES_SHOWN: Final = 20
_REASONS: Final = {
    "disk-full": "the disk of the box was full",
    "corrupt": "the disk of the box was damaged",
    "unfinished": "the power of the box failed before they were acknowledged",
    "unused": "no record had these numbers",
    "refused": "the data center refused them",
}


def box(page: PageRequest) -> Response:
    """Serve the page of a box."""
    serial = page.names["box"]
    state = read_box(page.store, serial)
    instruments = list_instruments_of_box(page.store, page.visible, serial)
    shown = {name for name, _, _ in instruments}
    runs = [run for run in stream_completeness(page.store, serial) if is_of_box(run) or run.stream in shown]
    silent = state.contact_ms is None or state.contact_ms < page.now_ms - SILENT_MS
    return show(
        page,
        "box.html",
        box=state,
        is_silent=silent,
        is_late=state.delay_ms is not None and state.delay_ms > LATE_MS,
        runs=runs,
        ranges_shown=RANGES_SHOWN,
        instruments=instruments,
        events=[_event(one) for one in list_events(page.store, serial) if _is_shown(one, shown)],
        silent_ms=SILENT_MS,
    )


def _is_shown(record: BoxReport, instruments: Collection[str]) -> bool:
    """Return whether a record is about the box itself, or about an instrument that the person may see.

    Lines of the operating system's audit log are not shown here.
    """
    if isinstance(record, LogLine):
        return False
    return not isinstance(record, ProfileInForce) or record.instrument in instruments


def _event(record: BoxReport) -> dict[str, Any]:
    """Return a record as a row of the table of events: time, name and description."""
    if isinstance(record, Gap):
        ranges = ", ".join(f"{first}–{last}" for first, last in record.ranges[:RANGES_SHOWN])
        text = f"{record.records} records: {_REASONS.get(record.reason, record.reason)}; numbers {ranges}"
        return {"at_ms": record.at_ms, "name": "gap", "text": text}
    if isinstance(record, ProfileInForce):
        text = f"{record.instrument} uses version {record.version} of the profile {record.model}"
        return {"at_ms": record.at_ms, "name": "profile", "text": text}
    if isinstance(record, UpdateStep):
        text = f"release {record.release}: {record.step}" + (f" ({record.reason})" if record.reason else "")
        return {"at_ms": record.at_ms, "name": "update", "text": text}
    assert isinstance(record, Audit), "`_is_shown` excludes log lines"
    details = [f"port {record.port}"] * bool(record.port) + [f"value {record.value}"] * bool(record.value)
    return {"at_ms": record.at_ms, "name": record.event, "text": ", ".join(details)}


ROUTES: Final = (WebRoute("GET", "/boxes/{box}", "view", "Box", box, "a box"),)
