"""Planning, listing and ending maintenance windows by staff, within their rights; every decision is recorded.

A window silences alerts. Therefore it needs the same rights: `silence-site` for a site or a box, `silence-alert` for
the alerts of an instrument. The window of a person who may not silence critical alerts does not cover them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, insert, or_, select, update

from datacenter.access.control import AccessDecider
from datacenter.access.decision import Decision
from datacenter.access.request import RequestContext, Resource
from datacenter.access.vocabulary import Purpose
from datacenter.fleet.alerts import REASON_CHARACTERS_MAX
from datacenter.fleet.visible import COLUMNS as RESOURCE_COLUMNS
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.maintenance.windows import COLUMNS, Kind, MaintenanceWindow, find_subject, find_window
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, maintenance, sites

HOURS_MAX: Final = 14 * 24
AHEAD_DAYS_MAX: Final = 366
LISTED_MAX: Final = 200
DAY_MS: Final = 86_400_000
PURPOSE: Final[Purpose] = "service"
_M: Final = maintenance.c


class MaintenanceRefusedError(Exception):
    """The window cannot be planned or ended; nothing was changed. The message says why."""


class WrongWindowError(MaintenanceRefusedError):
    """The times or the reason of a window are wrong, or it has ended. The message says how to correct it."""


@dataclass(frozen=True)
class MaintenanceDesk:
    """Actions of staff on maintenance windows. All methods raise StoreError."""

    store: Store
    access: AccessDecider
    purpose: Purpose = PURPOSE

    def plan(
        self,
        staff: str,
        kind: Kind,
        names: tuple[str, str, str],
        times_ms: tuple[int, int],
        reason: str,
        now_ms: int,
    ) -> MaintenanceWindow:
        """Plan a window of the site, box or instrument of `names`; `times_ms` are its beginning and its end.

        `names` are a site, a box and an instrument; only the names that `kind` needs are used.

        Raises: MaintenanceRefusedError.
        """
        from_ms, until_ms = times_ms
        if not now_ms < until_ms:
            raise WrongWindowError("the window must end in the future")
        if not from_ms < until_ms <= from_ms + HOURS_MAX * 3_600_000:
            raise WrongWindowError(f"the window must end after its beginning, within {HOURS_MAX} hours")
        if from_ms > now_ms + AHEAD_DAYS_MAX * DAY_MS:
            raise WrongWindowError(f"the window must begin within {AHEAD_DAYS_MAX} days")
        if not reason.strip() or not reason.isprintable() or len(reason) > REASON_CHARACTERS_MAX:
            raise WrongWindowError(f"give a reason in one line of at most {REASON_CHARACTERS_MAX} characters")
        resource = self._seen(staff, kind, names, now_ms)
        covers_critical = self._require(staff, kind, resource, now_ms)
        _, box, instrument = names
        window = MaintenanceWindow(
            secrets.token_hex(6),
            kind,
            resource.site,
            box if kind != "site" else "",
            instrument if kind == "instrument" else "",
            from_ms,
            until_ms,
            int(covers_critical),
            reason.strip(),
            staff,
            now_ms,
            None,
        )
        with self.store.transaction() as connection:
            connection.execute(insert(maintenance).values(window._asdict()))
        return window

    def end(self, staff: str, number: str, now_ms: int) -> MaintenanceWindow:
        """End a window now, or cancel it before it begins; its alerts are no longer silenced.

        Raises: MaintenanceRefusedError.
        """
        window = find_window(self.store, number)
        if window is None:
            raise MaintenanceRefusedError(f"there is no maintenance {number}")
        try:
            resource = self._seen(staff, window.kind, window.names, now_ms)
        except MaintenanceRefusedError:
            raise MaintenanceRefusedError(f"there is no maintenance {number}") from None
        self._require(staff, window.kind, resource, now_ms)
        if window.until_ms <= now_ms:
            raise WrongWindowError(f"maintenance {number} has already ended")
        with self.store.transaction() as connection:
            ended = {"until_ms": now_ms, "ended_by": staff}
            connection.execute(update(maintenance).where(_M.id == number).values(ended))
            silenced = and_(alerts.c.maintenance == number, alerts.c.silenced_until_ms > now_ms)
            connection.execute(update(alerts).where(silenced).values(silenced_until_ms=now_ms))
        return window._replace(until_ms=now_ms, ended_by=staff)

    def list(
        self,
        staff: str,
        now_ms: int,
        which: Sequence[ColumnElement[bool]] = (),
        limit: int = LISTED_MAX,
    ) -> list[MaintenanceWindow]:
        """Return the windows of sites and boxes that a person may see, the latest beginning first.

        `which` are further conditions on the columns of `maintenance`.
        """
        context = self._context(now_ms)
        sees_site, sees_box = (
            self.access.where(staff, "view", kind, context, RESOURCE_COLUMNS[kind])
            for kind in ("Site", "Box")
        )
        seen_sites = select(sites.c.site).select_from(sites.outerjoin(boxes, boxes.c.site == sites.c.site))
        seen_boxes = select(boxes.c.serial).select_from(PLACED_BOXES).where(sees_box)
        is_seen = or_(
            and_(_M.kind == "site", _M.site.in_(seen_sites.where(sees_site))), _M.box.in_(seen_boxes)
        )
        query = select(*COLUMNS).where(is_seen, *which).order_by(_M.from_ms.desc(), _M.id).limit(limit)
        return [MaintenanceWindow(*row) for row in self.store.read(query)]

    def may_plan(self, staff: str, kind: Kind, resource: Resource, now_ms: int) -> bool:
        """Return whether a person may plan a window, to offer it on a page."""
        target = _target(kind, resource, "error")
        return target is not None and self.access.peek(staff, *target, self._context(now_ms)).permitted

    def _seen(self, staff: str, kind: Kind, names: tuple[str, str, str], now_ms: int) -> Resource:
        """Return the subject of a window as a resource, if the person may see it."""
        site, box, instrument = names
        resource = find_subject(self.store, kind, names)
        text = {
            "site": f"site {site}",
            "box": f"box {box}",
            "instrument": f"instrument {instrument} at box {box}",
        }
        if resource is None or not self._decide(staff, "view", resource, now_ms).permitted:
            raise MaintenanceRefusedError(f"there is no {text[kind]}")
        return resource

    def _require(self, staff: str, kind: Kind, resource: Resource, now_ms: int) -> bool:
        """Require the right to silence; return whether it includes critical alerts."""
        target = _target(kind, resource, "error")
        if target is None:
            raise MaintenanceRefusedError(
                f"the {kind} {resource.id} is not assigned to a site; enter it in the fleet's file"
            )
        decision = self._decide(staff, *target, now_ms)
        if not decision.permitted:
            raise MaintenanceRefusedError(decision.reason)
        critical = _target(kind, resource, "critical")
        assert critical is not None, "as before"
        return self.access.peek(staff, *critical, self._context(now_ms)).permitted

    def _decide(self, staff: str, action: str, resource: Resource, now_ms: int) -> Decision:
        return self.access.decide(staff, action, resource, self._context(now_ms))

    def _context(self, now_ms: int) -> RequestContext:
        return RequestContext(now_ms, self.purpose)


def _target(kind: Kind, resource: Resource, severity: str) -> tuple[str, Resource] | None:
    """Return the action that a window needs, and its resource; None for a box that is not assigned to a site."""
    if kind == "instrument":
        name = f"alerts of {resource.id}"
        place = {"site": resource.site, "country": resource.country, "region": resource.region}
        return "silence-alert", Resource("Alert", name, **place, model=resource.model, severity=severity)
    if not resource.site:
        return None
    return "silence-site", Resource("Site", resource.site, resource.site, resource.country, resource.region)
