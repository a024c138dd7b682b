"""Rollouts: the list, the form that proposes a rollout, and the page that approves, pauses or withdraws it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.access.vocabulary import EVERYWHERE
from datacenter.releases.desk import PURPOSE
from datacenter.releases.folder import EMPTY
from datacenter.releases.judgement import WaveFigures
from datacenter.releases.listing import (
    FAILURES_SHOWN,
    RolloutRow,
    find_rollout_row,
    list_failures,
    list_rollouts,
    read_waves,
)
from datacenter.releases.plan import DAYS, RolloutPlan
from datacenter.releases.states import TRANSITIONS, RolloutEvent
from datacenter.releases.windows import next_windows
from datacenter.web.desks import rollout_desk
from datacenter.web.pages.page import keyset, show
from datacenter.web.parameters import ParameterError
from datacenter.web.responses import redirect
from datacenter.web.routes import Handler, NoParameters, PageRequest, WebRoute

PATH: Final = "/rollouts"
PAGE_SIZE: Final = 50
HEALTHS: Final = ("critical", "warning", "silent", "ok")
"""The colours of a wave's bar, in this order: failed; open; waiting or withdrawn; committed or present."""
ListKey = Annotated[int, Meta(ge=1, le=10**9)] | None
Words = Annotated[str, Meta(max_length=2000)]
CONTROLS: Final[tuple[tuple[RolloutEvent, str], ...]] = (
    ("pause", "Pause"),
    ("resume", "Resume"),
    ("withdraw", "Withdraw"),
)


class RolloutsQuery(Struct, frozen=True):
    """Selects the rollouts before or after a number."""

    before: ListKey = None
    after: ListKey = None


class RolloutForm(Struct, frozen=True):
    """A rollout to propose; lists are words separated by commas or spaces."""

    release: int = 0
    place: Annotated[str, Meta(max_length=80)] = EVERYWHERE
    models: Words = ""
    boxes: Words = ""
    waves: Annotated[str, Meta(max_length=200)] = "1, 10, 50, 100"
    observe_hours: int = 24
    answer_hours: int = 72
    failures_percent: int = 5
    failures_max: int | None = None
    begins: Annotated[str, Meta(max_length=5)] = ""
    ends: Annotated[str, Meta(max_length=5)] = ""
    days: Words = ""
    may_fetch_slot: Literal["", "yes"] = ""

    def plan(self) -> RolloutPlan:
        """Return the plan. Raises: ParameterError."""
        values: dict[str, Any] = msgspec.structs.asdict(self)
        begins, ends, days = (values.pop(name) for name in ("begins", "ends", "days"))
        values |= {name: values[name].replace(",", " ").split() for name in ("models", "boxes", "waves")}
        values["may_fetch_slot"] = bool(self.may_fetch_slot)
        if begins or ends:
            values["restart"] = {"begins": begins, "ends": ends}
            if days:
                values["restart"]["days"] = days.lower().replace(",", " ").split()
        elif days:
            raise ParameterError("days: also give the times from and until which boxes restart")
        try:
            return msgspec.convert(values, RolloutPlan, strict=False)
        except msgspec.ValidationError as error:
            raise ParameterError(str(error)) from None


def rollouts(page: PageRequest) -> Response:
    """Serve the list of rollouts, and the form that proposes a rollout."""
    query: RolloutsQuery = page.query
    is_seen = page.visible.where("Rollout")

    def fetch(limit: int, before: int | None, after: int | None) -> list[RolloutRow]:
        return list_rollouts(page.store, [is_seen], limit, before, after)

    part = keyset(PATH, query, PAGE_SIZE, fetch, lambda row: row.id)
    releases = (page.services.releases.current if page.services.releases else EMPTY).releases
    return show(
        page,
        "rollouts.html",
        part=part,
        is_configured=page.services.releases is not None,
        releases=sorted(releases.values(), reverse=True),
        places=sorted(page.entry.principal.scope),
        form=RolloutForm(),
        clear=PATH,
    )


def propose(page: PageRequest) -> Response:
    """Propose a rollout."""
    form: RolloutForm = page.query
    with rollout_desk(page) as desk:
        desk.authorize(page.staff, form.place, page.now_ms)
        row = desk.propose(page.staff, form.plan(), page.now_ms)
    return redirect(f"{PATH}/{row.id}")


def rollout(page: PageRequest) -> Response:
    """Serve the page of a rollout."""
    row = find_rollout_row(page.store, int(page.names["rollout"]))
    assert row is not None, "the access check has found it"
    with rollout_desk(page) as desk:
        may_control = desk.may_control(page.staff, row, page.now_ms)
        controls = [pair for pair in CONTROLS if may_control and row.state in TRANSITIONS[pair[0]]]
        may_approve = row.state == "proposed" and desk.may_approve(page.staff, row, page.now_ms)
        count = desk.count_boxes(row.plan)
    failures = list_failures(page.store, row.id)
    return show(
        page,
        "rollout.html",
        row=row,
        waves=read_waves(page.store, row, page.now_ms),
        bar=_bar,
        healths=HEALTHS,
        failures=failures,
        failures_shown=FAILURES_SHOWN,
        controls=controls,
        may_approve=may_approve,
        boxes=count,
        windows=next_windows(page.store, row, page.now_ms),
        days=DAYS,
    )


def approve(page: PageRequest) -> Response:
    """Approve a rollout, which starts it."""
    number = int(page.names["rollout"])
    with rollout_desk(page) as desk:
        desk.approve(page.staff, number, page.now_ms)
    return redirect(f"{PATH}/{number}")


def control(event: RolloutEvent, page: PageRequest) -> Response:
    """Pause, resume or withdraw a rollout."""
    number = int(page.names["rollout"])
    with rollout_desk(page) as desk:
        desk.control(page.staff, number, event, page.now_ms)
    return redirect(f"{PATH}/{number}")


def _bar(wave: WaveFigures) -> dict[str, int]:
    """Return the numbers of boxes of a wave by the colour of HEALTHS."""
    return {
        "critical": wave.failed,
        "warning": wave.open,
        "silent": wave.waiting + wave.withdrawn,
        "ok": wave.committed + wave.present,
    }


def _form(verb: str, handler: Handler, text: str) -> WebRoute:
    """Return the row of a form about one rollout. RolloutDesk checks and records the right."""
    path = f"{PATH}/{{rollout}}/{verb}"
    return WebRoute("POST", path, "view", "Rollout", handler, text, NoParameters, "form", PURPOSE)


ROUTES: Final = (
    WebRoute("GET", PATH, "view", "", rollouts, "rollouts", RolloutsQuery, purpose=PURPOSE),
    WebRoute("POST", PATH, "update-box", "", propose, "propose a rollout", RolloutForm, "form", PURPOSE),
    WebRoute("GET", f"{PATH}/{{rollout}}", "view", "Rollout", rollout, "a rollout", purpose=PURPOSE),
    _form("approve", approve, "approve and start a rollout"),
    *(_form(event, partial(control, event), f"{event} a rollout") for event, _ in CONTROLS),
)
