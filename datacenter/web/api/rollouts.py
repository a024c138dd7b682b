"""Rollouts for programs: the list, proposing a rollout, its waves and failures, and pausing or withdrawing it.

Rollouts are approved by a person on a page; programs cannot start a rollout.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.access.vocabulary import EVERYWHERE
from datacenter.releases.desk import PURPOSE
from datacenter.releases.listing import (
    RolloutRow,
    find_rollout_row,
    list_failures,
    list_rollouts,
    read_waves,
)
from datacenter.releases.plan import RolloutPlan
from datacenter.releases.states import BoxState, RolloutEvent, RolloutState
from datacenter.web.api.json_responses import PREFIX, Cursor, Limit, decode_cursor, json_response, next_cursor
from datacenter.web.desks import rollout_desk
from datacenter.web.parameters import ParameterError
from datacenter.web.routes import NoParameters, PageRequest, WebRoute
from wire.release.messages import Kind

PATH: Final = f"{PREFIX}/rollouts"
_EVENTS: Final[tuple[RolloutEvent, ...]] = ("pause", "resume", "withdraw")


class ApiRolloutsQuery(Struct, frozen=True):
    """Selects a part of the list of rollouts."""

    limit: Limit = 100
    cursor: Cursor = ""


class NewRollout(Struct, frozen=True):
    """A rollout to propose, with the fields of the page's form."""

    release: Annotated[int, Meta(description="the number of the release")] = 0
    place: Annotated[str, Meta(max_length=80, description="everywhere, or a location such as country/DE")] = (
        EVERYWHERE
    )
    models: list[str] = []
    boxes: list[str] = []
    waves: Annotated[
        tuple[int, ...], Meta(max_length=20, description="ascending cumulative percentages; the last is 100")
    ] = (1, 10, 50, 100)
    observe_hours: int = 24
    answer_hours: int = 72
    failures_percent: int = 5
    failures_max: int | None = None
    may_fetch_slot: bool = False
    begins: Annotated[
        str, Meta(max_length=5, description="time of day at the site from which boxes may restart")
    ] = ""
    ends: Annotated[
        str, Meta(max_length=5, description="time until which they may; both empty: any time")
    ] = ""
    days: Annotated[list[str], Meta(max_length=7, description="days such as mon; empty for all days")] = []

    def plan(self) -> RolloutPlan:
        """Return the plan. Raises: ParameterError."""
        values = msgspec.to_builtins(self)
        begins, ends, days = (values.pop(name) for name in ("begins", "ends", "days"))
        if begins or ends:
            values["restart"] = {"begins": begins, "ends": ends, **({"days": days} if days else {})}
        elif days:
            raise ParameterError("days: also give `begins` and `ends`")
        try:
            return msgspec.convert(values, RolloutPlan)
        except msgspec.ValidationError as error:
            raise ParameterError(str(error)) from None


class ApiWave(Struct, frozen=True):
    """A wave: the numbers of its boxes by outcome. `end_ms` is when it was or will be complete; null if unknown."""

    percent: int
    boxes: int
    present: int
    waiting: int
    open: int
    committed: int
    failed: int
    withdrawn: int
    end_ms: int | None


class ApiFailure(Struct, frozen=True):
    """A box at which the rollout failed."""

    box: str
    wave: int
    state: BoxState
    reason: str
    ordered_at_ms: int
    ended_at_ms: int | None


class ApiRollout(Struct, frozen=True):
    """A rollout. In lists, `waves` and `failures` are empty."""

    rollout: int
    release: int
    name: str
    kind: Kind
    place: str
    state: RolloutState
    reason: str
    wave: int
    """The number of the current wave, from 1; 0 before the first one."""
    requester: str
    created_at_ms: int
    approved_by: str | None
    approved_at_ms: int | None
    changed_at_ms: int
    waves: list[ApiWave]
    failures: list[ApiFailure]
    """The latest 200."""


class RolloutList(Struct, frozen=True):
    """A part of the list of rollouts, the newest first."""

    items: list[ApiRollout]
    next: str | None


def list_all(page: PageRequest) -> Response:
    """Return a part of the list of rollouts, the newest first."""
    query: ApiRolloutsQuery = page.query
    before = decode_cursor(query.cursor, tuple[int])
    is_seen = page.visible.where("Rollout")
    rows = list_rollouts(page.store, [is_seen], query.limit + 1, before[0] if before else None)
    items = [_item(row) for row in rows[: query.limit]]
    return json_response(page, RolloutList(items, next_cursor(rows, query.limit, lambda row: (row.id,))))


def propose(page: PageRequest) -> Response:
    """Propose a rollout, and return it."""
    wanted: NewRollout = page.query
    with rollout_desk(page) as desk:
        desk.authorize(page.staff, wanted.place, page.now_ms)
        row = desk.propose(page.staff, wanted.plan(), page.now_ms)
    return json_response(page, _with_waves(page, row))


def show_rollout(page: PageRequest) -> Response:
    """Return a rollout with its waves and failures."""
    row = find_rollout_row(page.store, int(page.names["rollout"]))
    assert row is not None, "the access check has found it"
    return json_response(page, _with_waves(page, row))


def control(event: RolloutEvent, page: PageRequest) -> Response:
    """Pause, resume or withdraw a rollout, and return it."""
    with rollout_desk(page) as desk:
        row = desk.control(page.staff, int(page.names["rollout"]), event, page.now_ms)
    return json_response(page, _with_waves(page, row))


def _with_waves(page: PageRequest, row: RolloutRow) -> ApiRollout:
    waves = [
        ApiWave(
            wave.percent,
            of.boxes,
            of.present,
            of.waiting,
            of.open,
            of.committed,
            of.failed,
            of.withdrawn,
            wave.end_ms,
        )
        for wave in read_waves(page.store, row, page.now_ms)
        for of in (wave.figures,)
    ]
    failures = [
        ApiFailure(one.box, one.wave, one.state, one.reason, one.ordered_at_ms, one.ended_at_ms)
        for one in list_failures(page.store, row.id)
    ]
    return msgspec.structs.replace(_item(row), waves=waves, failures=failures)


def _item(row: RolloutRow) -> ApiRollout:
    return ApiRollout(
        row.id,
        row.release,
        row.name,
        row.kind,
        row.plan.place,
        row.state,
        row.reason,
        0 if row.wave_began_at_ms is None else row.wave + 1,
        row.requester,
        row.created_at_ms,
        row.approved_by,
        row.approved_at_ms,
        row.changed_at_ms,
        [],
        [],
    )


ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", list_all, "rollouts", ApiRolloutsQuery, "api", PURPOSE, RolloutList),
    WebRoute(
        "POST",
        PATH,
        "update-box",
        "",
        propose,
        "propose a rollout",
        NewRollout,
        "api",
        PURPOSE,
        ApiRollout,
        statuses=(409,),
    ),
    WebRoute(
        "GET",
        f"{PATH}/{{rollout}}",
        "view",
        "Rollout",
        show_rollout,
        "a rollout",
        response_kind="api",
        purpose=PURPOSE,
        result=ApiRollout,
    ),
    *(
        WebRoute(
            "POST",
            f"{PATH}/{{rollout}}/{event}",
            "view",
            "Rollout",
            partial(control, event),
            f"{event} a rollout",
            NoParameters,
            "api",
            PURPOSE,
            ApiRollout,
            statuses=(409,),
        )
        for event in _EVENTS
    ),
)
