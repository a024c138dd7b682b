"""Lists rollouts, and the results of a rollout: its waves with their expected ends, and its failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, select

from datacenter.access.request import Resource
from datacenter.access.vocabulary import Purpose
from datacenter.releases.figures import read_figures
from datacenter.releases.judgement import WaveFigures
from datacenter.releases.plan import RolloutPlan, decode_plan
from datacenter.releases.states import FAILURES, BoxState, RolloutProgress, RolloutState
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, rollouts, sites, update_orders
from wire.release.messages import Kind

FAILURES_SHOWN: Final = 200
_O: Final = update_orders.c
_R: Final = rollouts.c


class RolloutRow(NamedTuple):
    """A rollout."""

    id: int
    release: int
    name: str
    kind: Kind
    site: str
    country: str
    region: str
    plan: RolloutPlan
    requester: str
    purpose: Purpose
    created_at_ms: int
    state: RolloutState
    reason: str
    wave: int
    wave_began_at_ms: int | None
    approved_by: str | None
    approved_at_ms: int | None
    changed_at_ms: int

    @property
    def resource(self) -> Resource:
        """The rollout as a resource of policies."""
        return Resource(
            "Rollout", str(self.id), self.site, self.country, self.region, requester=self.requester
        )

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("stopped", "withdrawn", "done")


class WaveRow(NamedTuple):
    """A wave of a rollout. `end_ms` is when it is expected to be complete, or was; None if that is unknown."""

    number: int
    percent: int
    figures: WaveFigures
    end_ms: int | None


class FailedBox(NamedTuple):
    """A box that refused, failed, returned or did not respond."""

    box: str
    site: str | None
    wave: int
    state: BoxState
    reason: str
    ordered_at_ms: int
    ended_at_ms: int | None


def list_rollouts(
    store: Store,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    before: int | None = None,
    after: int | None = None,
) -> list[RolloutRow]:
    """Return at most `limit` rollouts, newest first: the newest before a number, or the oldest after it.

    Raises: StoreError.
    """
    query = select(*(_R[name] for name in RolloutRow._fields)).where(*conditions)
    if after is not None:
        query = query.where(_R.id > after).order_by(_R.id)
    else:
        query = query.order_by(_R.id.desc())
        query = query.where(_R.id < before) if before is not None else query
    rows = [
        RolloutRow._make(row)._replace(plan=decode_plan(row.plan)) for row in store.read(query.limit(limit))
    ]
    return rows if after is None else rows[::-1]


def find_rollout_row(store: Store, number: int) -> RolloutRow | None:
    """Return a rollout; None if there is none. Raises: StoreError."""
    return next(iter(list_rollouts(store, [_R.id == number], 1)), None)


def read_waves(store: Store, row: RolloutRow, now_ms: int) -> list[WaveRow]:
    """Return the waves of a rollout. Raises: StoreError."""
    is_committed = and_(_O.rollout == row.id, _O.step == "committed")
    with store.transaction() as connection:
        figures = read_figures(connection, row.id, len(row.plan.waves))
        lasts_ms = connection.scalar(select(func.avg(_O.step_at_ms - _O.ordered_at_ms)).where(is_committed))
    ends = expected_ends(row, figures, None if lasts_ms is None else round(lasts_ms), now_ms)
    return [
        WaveRow(number, percent, of_wave, end_ms)
        for number, (percent, of_wave, end_ms) in enumerate(
            zip(row.plan.waves, figures, ends, strict=True), 1
        )
    ]


def expected_ends(
    row: RolloutRow, figures: Sequence[WaveFigures], lasts_ms: int | None, now_ms: int
) -> list[int | None]:
    """Return when each wave is expected to be complete; for a finished wave, when its last order ended.

    `lasts_ms` is the mean time from order to commitment so far; without a mean time, the time limit of boxes is used.
    """
    each_ms = row.plan.answer_ms if lasts_ms is None else min(lasts_ms, row.plan.answer_ms)
    ends: list[int | None] = []
    begins_ms = max(now_ms, row.plan.not_before_ms)
    for index, of_wave in enumerate(figures):
        is_past = row.wave_began_at_ms is not None and index < row.wave
        is_current = row.wave_began_at_ms is not None and index == row.wave
        if is_past or row.is_over:
            ends.append(of_wave.last_ended_ms or None)
            continue
        if is_current and not (of_wave.open or of_wave.waiting):
            end_ms = of_wave.last_ended_ms or now_ms
        else:
            end_ms = max(now_ms, (row.wave_began_at_ms or begins_ms) if is_current else begins_ms) + each_ms
        ends.append(None if row.state == "proposed" else end_ms)
        begins_ms = max(now_ms, end_ms + row.plan.observe_ms)
    return ends


def list_failures(store: Store, rollout: int) -> list[FailedBox]:
    """Return the boxes that failed, the latest first, at most FAILURES_SHOWN. Raises: StoreError."""
    is_failure = case(
        (_O.step.in_(sorted(FAILURES)), 1), (and_(_O.ending == "silent", _O.rank < 10), 1), else_=0
    )
    query = (
        select(_O.box, sites.c.name, _O.wave, _O.step, _O.ending, _O.reason, _O.ordered_at_ms, _O.ended_at_ms)
        .select_from(update_orders.join(boxes).outerjoin(sites, boxes.c.site == sites.c.site))
        .where(_O.rollout == rollout, _O.ordered_at_ms.is_not(None), is_failure == 1)
        .order_by(_O.ended_at_ms.desc(), _O.box)
    )
    failures = []
    for row in store.read(query.limit(FAILURES_SHOWN)):
        state = RolloutProgress(True, row.step, row.ending).state
        if state in FAILURES:
            failures.append(
                FailedBox(
                    row.box, row.name, row.wave + 1, state, row.reason, row.ordered_at_ms, row.ended_at_ms
                )
            )
    return failures
