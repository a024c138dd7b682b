"""Proposing, starting, pausing and withdrawing rollouts by staff, within their rights; every decision is recorded.

A rollout has a location: the person who proposes it must have the right to install releases everywhere in that
location; boxes that are added later are then covered. It starts when a second person has approved exactly this plan
(`datacenter.access.four_eyes`). Stopping a rollout is not a dangerous change: one person may do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import func, insert, select

from datacenter.access.control import AccessDecider
from datacenter.access.decision import Decision
from datacenter.access.four_eyes import APPROVAL_MS, NotApproved, PendingChange, approve, decide_change
from datacenter.access.request import Approval, RequestContext, Resource
from datacenter.access.vocabulary import EVERYWHERE, LEVELS, Purpose
from datacenter.commands.desk import SECOND_PERSON
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.releases.folder import ReleaseSet
from datacenter.releases.listing import RolloutRow, find_rollout_row
from datacenter.releases.plan import RolloutPlan, encode_plan
from datacenter.releases.runner import change_state, find_group
from datacenter.releases.states import RolloutEvent, RolloutEventError
from datacenter.store.store import Store
from datacenter.store.tables.schema import rollouts, sites

ACTION = "update-box"
PURPOSE: Purpose = "service"
TEXTS: dict[RolloutEvent, str] = {"pause": "paused", "resume": "resumed", "withdraw": "withdrawn"}


class RolloutRefusedError(Exception):
    """The rollout cannot be proposed or changed; nothing was changed. The message says why."""


class RolloutConflictError(RolloutRefusedError):
    """The state of the rollout does not permit it, or its release does not exist."""


class WrongRolloutError(RolloutRefusedError):
    """The plan is wrong. The message says how to correct it."""


@dataclass(frozen=True)
class RolloutDesk:
    """Actions of staff on rollouts. All methods raise StoreError."""

    store: Store
    releases: ReleaseSet
    access: AccessDecider
    purpose: Purpose = PURPOSE

    def authorize(self, staff: str, place: str, now_ms: int) -> Resource:
        """Require the right to propose a rollout at a location such as `country/DE`; return its resource.

        Raises: RolloutRefusedError.
        """
        resource = self._location(staff, place)
        approved = Approval(SECOND_PERSON, now_ms + APPROVAL_MS)
        context = RequestContext(now_ms, self.purpose, approval=approved)
        _require(self.access.decide(staff, ACTION, resource, context))
        return resource

    def propose(self, staff: str, plan: RolloutPlan, now_ms: int) -> RolloutRow:
        """Store a rollout that waits for a second person. Raises: RolloutRefusedError."""
        resource = self.authorize(staff, plan.place, now_ms)
        release = self.releases.releases.get(plan.release)
        if release is None:
            known = ", ".join(map(str, sorted(self.releases.releases))) or "none"
            raise RolloutConflictError(f"there is no release {plan.release}; the releases are: {known}")
        if not self.count_boxes(plan):
            raise RolloutConflictError("no box is in the group; give another place, model or box")
        values = {
            "release": release.number,
            "name": release.name,
            "kind": release.kind,
            "site": resource.site,
            "country": resource.country,
            "region": resource.region,
            "plan": encode_plan(plan),
            "requester": staff,
            "purpose": self.purpose,
            "created_at_ms": now_ms,
            "state": "proposed",
            "changed_at_ms": now_ms,
        }
        with self.store.transaction() as connection:
            number = connection.execute(insert(rollouts).values(values).returning(_R.id)).scalar_one()
        return self.read(int(number))

    def approve(self, staff: str, number: int, now_ms: int) -> RolloutRow:
        """Approve a rollout that another person requested, and start it. Raises: RolloutRefusedError."""
        row = self.seen(staff, number, now_ms)
        change = _change(row)
        try:
            approval = approve(self.access, change, staff, RequestContext(now_ms, self.purpose))
            _require(decide_change(self.access, change, approval, now_ms))
        except NotApproved as refused:
            raise RolloutRefusedError(str(refused)) from None
        columns = {"approved_by": staff, "approved_at_ms": now_ms}
        return self._apply(number, "start", f"approved by {staff}", now_ms, **columns)

    def control(self, staff: str, number: int, event: RolloutEvent, now_ms: int) -> RolloutRow:
        """Pause, resume or withdraw a rollout. Raises: RolloutRefusedError."""
        row = self.seen(staff, number, now_ms)
        context = RequestContext(now_ms, self.purpose)
        _require(self.access.decide(staff, "control-rollout", row.resource, context))
        return self._apply(number, event, f"{TEXTS[event]} by {staff}", now_ms)

    def may_approve(self, staff: str, row: RolloutRow, now_ms: int) -> bool:
        """Return whether a person may approve a rollout, to offer it on a page."""
        context = RequestContext(now_ms, self.purpose)
        return self.access.peek(staff, "approve", _change(row).as_resource, context).permitted

    def may_control(self, staff: str, row: RolloutRow, now_ms: int) -> bool:
        """Return whether a person may pause, resume or withdraw a rollout."""
        context = RequestContext(now_ms, self.purpose)
        return self.access.peek(staff, "control-rollout", row.resource, context).permitted

    def count_boxes(self, plan: RolloutPlan) -> int:
        """Return the number of boxes to which the plan applies now."""
        query = select(func.count()).select_from(PLACED_BOXES).where(find_group(plan))
        return int(next(self.store.read(query))[0])

    def read(self, number: int) -> RolloutRow:
        """Return a rollout that exists."""
        row = find_rollout_row(self.store, number)
        assert row is not None, "rollouts are never removed"
        return row

    def seen(self, staff: str, number: int, now_ms: int) -> RolloutRow:
        """Return a rollout, if the person may see it. Raises: RolloutRefusedError."""
        row = find_rollout_row(self.store, number)
        context = RequestContext(now_ms, self.purpose)
        if row is None or not self.access.decide(staff, "view", row.resource, context).permitted:
            raise RolloutRefusedError(f"there is no rollout {number}")
        return row

    def _apply(
        self, number: int, event: RolloutEvent, reason: str, now_ms: int, **columns: object
    ) -> RolloutRow:
        try:
            with self.store.transaction() as connection:
                change_state(connection, number, event, reason, now_ms, **columns)
        except RolloutEventError as error:
            raise RolloutConflictError(str(error)) from None
        return self.read(number)

    def _location(self, staff: str, text: str) -> Resource:
        """Return a new rollout as a resource: its location, with the country and the region that contain it."""
        level, _, name = text.partition("/")
        if text != EVERYWHERE and (level not in LEVELS or not name):
            raise WrongRolloutError(f"place: {text!r}: give {EVERYWHERE}, or a place such as country/DE")
        location = {level: name} if name else {}
        if name:
            column = sites.c[level]
            above = [sites.c[name] for name in ("country", "region") if name != level and level != "region"]
            if above:
                ancestors = {tuple(row) for row in self.store.read(select(*above).where(column == name))}
                if len(ancestors) == 1:  # a country in two regions counts as in neither
                    location |= {
                        column.name: str(value) for column, value in zip(above, ancestors.pop(), strict=True)
                    }
        return Resource("Rollout", "new", **location, requester=staff)


_R = rollouts.c


def _change(row: RolloutRow) -> PendingChange:
    """Return the rollout as a change that a second person approves."""
    content = sha256(encode_plan(row.plan).encode()).hexdigest()
    return PendingChange(
        str(row.id), row.requester, ACTION, row.resource, row.purpose, content, row.created_at_ms
    )


def _require(decision: Decision) -> None:
    if not decision.permitted:
        raise RolloutRefusedError(decision.reason)
