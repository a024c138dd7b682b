"""Shared parts of pages: the frame with navigation and user menu, the paging of lists, and periods of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.fleet.alerts import AlertFilter, count_alerts
from datacenter.web.parameters import Moment, ParameterError
from datacenter.web.rendering import render
from datacenter.web.responses import html
from datacenter.web.routes import PageRequest

Row = TypeVar("Row")
PageNumber: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
PeriodName: TypeAlias = Literal["6h", "24h", "7d", "15d", "90d"]
PERIODS: Final[dict[PeriodName, tuple[int, str]]] = {
    "6h": (6 * 3_600_000, "6 hours"),
    "24h": (86_400_000, "24 hours"),
    "7d": (7 * 86_400_000, "7 days"),
    "15d": (15 * 86_400_000, "15 days"),
    "90d": (90 * 86_400_000, "90 days"),
}
PERIOD_MS_MAX: Final = 366 * 86_400_000


class ShownPeriod(NamedTuple):
    """A period in milliseconds since 1970, the end not included."""

    since_ms: int
    until_ms: int


class PeriodQuery(Struct, frozen=True):
    """A period from `since_ms`, or of the length `period`, until `until_ms`, or now."""

    period: PeriodName = "7d"
    since_ms: Moment | None = None
    until_ms: Moment | None = None


def times_of(query: PeriodQuery, now_ms: int) -> ShownPeriod:
    """Return the times of a period. Raises: ParameterError."""
    until_ms = now_ms if query.until_ms is None else query.until_ms
    since_ms = until_ms - PERIODS[query.period][0] if query.since_ms is None else query.since_ms
    if not since_ms < until_ms:
        raise ParameterError("since_ms: must be before until_ms")
    if until_ms - since_ms > PERIOD_MS_MAX:
        raise ParameterError("since_ms: a period has at most 366 days; choose a later beginning")
    return ShownPeriod(since_ms, until_ms)


class Paging(NamedTuple):
    """A page of a list of `total` rows."""

    number: int
    size: int
    total: int

    @property
    def last(self) -> int:
        """The number of the last page."""
        return max(1, -(-self.total // self.size))

    @property
    def first_row(self) -> int:
        """The number of the first row on the page, from 1."""
        return (self.number - 1) * self.size + 1

    @property
    def last_row(self) -> int:
        """The number of the last row on the page."""
        return min(self.number * self.size, self.total)


@dataclass(frozen=True)
class Keyset(Generic[Row]):
    """A part of a list by keys, newest first, and the addresses of the adjacent parts; None at an end."""

    rows: list[Row]
    newer: str | None
    older: str | None


def keyset(
    path: str,
    query: Any,
    size: int,
    fetch: Callable[[int, Any, Any], list[Row]],
    key: Callable[[Row], object],
) -> Keyset[Row]:
    """Return the part of a list before the key `query.before`, or after the key `query.after`.

    `fetch` returns at most a given number of rows before or after a key, newest first; both keys can be None. `key`
    returns the key of a row.
    """
    before, after = query.before or None, query.after or None
    rows = fetch(size + 1, before, after)
    if after and len(rows) <= size:  # show a full part at the newest end
        before = after = None
        rows = fetch(size + 1, None, None)
    has_more = len(rows) > size
    rows = rows[-size:] if after else rows[:size]
    newer = older = None
    if before or after:
        newer = address(path, query, before=None, after=key(rows[0]) if rows else None)
    if rows and (after or has_more):
        older = address(path, query, before=key(rows[-1]), after=None)
    return Keyset(rows, newer, older)


def address(path: str, query: Struct, **changes: object) -> str:
    """Return a path with those parameters of `query`, after `changes`, that differ from their defaults."""
    values = {**msgspec.structs.asdict(query), **changes}
    defaults = msgspec.structs.asdict(type(query)())
    given = {name: value for name, value in values.items() if value not in (defaults[name], None)}
    return f"{path}?{urlencode(given)}" if given else path


def show(page: PageRequest, template: str, status: int = 200, **values: Any) -> Response:
    """Render a template in the frame of all pages."""
    waiting = count_alerts(page.store, page.visible, AlertFilter("unacknowledged"))
    return html(
        render(
            template,
            zone=page.entry.zone,
            now_ms=page.now_ms,
            staff=page.staff,
            entry=page.entry,
            form_token=page.form_token,
            other_sign_in_ms=page.other_sign_in_ms,
            alerts_waiting=waiting,
            **values,
        ),
        status,
    )


def show_fragment(page: PageRequest, template: str, **values: Any) -> Response:
    """Render the part of a page that htmx replaces."""
    return html(
        render(template, zone=page.entry.zone, now_ms=page.now_ms, form_token=page.form_token, **values)
    )
