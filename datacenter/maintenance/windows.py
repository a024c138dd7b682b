"""Maintenance windows in the database, and the search for the window that covers an alert."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

from sqlalchemy import Connection, and_, or_, select

from datacenter.access.request import Resource
from datacenter.fleet.visible import find_box, find_instrument, find_site
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, maintenance

Kind: TypeAlias = Literal["site", "box", "instrument"]
WindowState: TypeAlias = Literal["planned", "in progress", "ended", "cancelled"]
_M: Final = maintenance.c


class MaintenanceWindow(NamedTuple):
    """A window from `from_ms` until before `until_ms`. `site` is the box's site; unused fields are empty."""

    id: str
    kind: Kind
    site: str
    box: str
    instrument: str
    from_ms: int
    until_ms: int
    covers_critical: int
    """1 if alerts of the severity "critical" are silenced, too."""
    reason: str
    planned_by: str
    planned_at_ms: int
    ended_by: str | None

    @property
    def names(self) -> tuple[str, str, str]:
        """Site, box and instrument."""
        return self.site, self.box, self.instrument

    @property
    def about(self) -> str:
        """The subject of the window: the kind and name of a site, box or instrument."""
        return f"{self.kind} {self.instrument or self.box or self.site}"

    def state(self, now_ms: int) -> WindowState:
        """Return the state in words."""
        if self.until_ms < self.from_ms:
            return "cancelled"
        if now_ms >= self.until_ms:
            return "ended"
        return "planned" if now_ms < self.from_ms else "in progress"


COLUMNS: Final = tuple(_M[name] for name in MaintenanceWindow._fields)


def find_subject(store: Store, kind: Kind, names: tuple[str, str, str]) -> Resource | None:
    """Return the resource of a site, box or instrument; None if it does not exist.

    `names` are a site, a box and an instrument; only the names that `kind` needs are used. Raises: StoreError.
    """
    site, box, instrument = names
    if kind == "site":
        return find_site(store, site)
    return find_box(store, box) if kind == "box" else find_instrument(store, box, instrument)


def find_subject_of(store: Store, number: str) -> Resource | None:
    """Return the resource that a window is for; None if either does not exist. Raises: StoreError."""
    window = find_window(store, number)
    return None if window is None else find_subject(store, window.kind, window.names)


def find_window(store: Store, number: str) -> MaintenanceWindow | None:
    """Return a window; None if there is none. Raises: StoreError."""
    row = next(store.read(select(*COLUMNS).where(_M.id == number)), None)
    return None if row is None else MaintenanceWindow(*row)


def covering_window(
    connection: Connection, box: str, instrument: str, severity: str, times_ms: tuple[int, int]
) -> MaintenanceWindow | None:
    """Return the window in which an alert began; of several windows, the one that ends last.

    `times_ms` are its beginning by the instrument's clock, and when it was raised; one of them must be in the window.
    """
    site = select(boxes.c.site).where(boxes.c.serial == box).scalar_subquery()
    covers = or_(
        and_(_M.kind == "site", _M.site == site),
        and_(_M.kind == "box", _M.box == box),
        and_(_M.kind == "instrument", _M.box == box, _M.instrument == instrument),
    )
    is_then = or_(*(and_(_M.from_ms <= at_ms, at_ms < _M.until_ms) for at_ms in times_ms))
    query = select(*COLUMNS).where(covers, is_then).order_by(_M.until_ms.desc()).limit(1)
    if severity == "critical":
        query = query.where(_M.covers_critical == 1)
    row = connection.execute(query).first()
    return None if row is None else MaintenanceWindow(*row)
