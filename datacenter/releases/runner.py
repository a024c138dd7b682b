"""Advances the running rollouts: orders boxes wave by wave, and stops rollouts that fail.

Each rollout is one transaction with its records in the audit log; any process may advance it at any time. The
database permits at most one open order for each box. All times are by the data center's clock.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, insert, or_, select, update

from datacenter.audit.chain import AuditEntry
from datacenter.audit.trail import append_within
from datacenter.fleet.visible import PLACED_BOXES
from datacenter.releases.figures import read_figures
from datacenter.releases.folder import ReleaseSet
from datacenter.releases.judgement import Judgement, judge
from datacenter.releases.orders import IS_OPEN
from datacenter.releases.plan import RolloutPlan, decode_plan
from datacenter.releases.states import CANCELS_ORDERS, RolloutEvent, RolloutState, after
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_releases, boxes, instruments, rollouts, sites, update_orders

ACTOR: Final = "data center"
_O: Final = update_orders.c
_R: Final = rollouts.c
_log: Final = logging.getLogger(__name__)


def advance_rollouts(store: Store, releases: ReleaseSet, now_ms: int) -> None:
    """Advance all rollouts. Raises: StoreError; then the remaining rollouts are not advanced."""
    active = select(_R.id).where(_R.state.in_(("running", "paused"))).order_by(_R.id)
    for (number,) in list(store.read(active)):
        with store.transaction() as connection:
            _advance(connection, releases, number, now_ms)


def change_state(
    connection: Connection, number: int, event: RolloutEvent, reason: str, now_ms: int, **columns: Any
) -> RolloutState:
    """Apply an event to a rollout, and cancel its open orders if the new state ends them; `columns` are set, too.

    Raises: RolloutEventError if its state does not permit it.
    """
    before = connection.scalar(select(_R.state).where(_R.id == number).with_for_update())
    assert before is not None, "callers have found the rollout"
    state = after(before, event)
    values = {"state": state, "reason": reason, "changed_at_ms": now_ms, **columns}
    connection.execute(update(rollouts).where(_R.id == number).values(values))
    if state in CANCELS_ORDERS:
        remaining = and_(_O.rollout == number, _O.ended_at_ms.is_(None))
        cancelled = {"ending": "withdrawn", "ended_at_ms": now_ms}
        connection.execute(update(update_orders).where(remaining).values(cancelled))
    return state


def find_group(plan: RolloutPlan) -> ColumnElement[bool]:
    """Return the condition for the boxes that a plan is for, on `PLACED_BOXES`."""
    conditions: list[ColumnElement[bool]] = [boxes.c.dismissed_at_ms.is_(None)]
    level, _, name = plan.place.partition("/")
    if name:
        columns = {"site": boxes.c.site, "country": sites.c.country, "region": sites.c.region}
        conditions.append(columns[level] == name)
    if plan.models:
        of_model = select(instruments.c.box).where(instruments.c.model.in_(plan.models))
        conditions.append(boxes.c.serial.in_(of_model))
    if plan.boxes:
        conditions.append(boxes.c.serial.in_(plan.boxes))
    return and_(*conditions)


def _advance(connection: Connection, releases: ReleaseSet, number: int, now_ms: int) -> None:
    query = select(rollouts).where(_R.id == number, _R.state.in_(("running", "paused")))
    row = connection.execute(query.with_for_update()).one_or_none()
    if row is None:
        return  # another process was first
    plan = decode_plan(row.plan)
    _end_silent(connection, number, now_ms)
    if row.state == "paused":
        _stop_if_judged(connection, number, _judge(connection, row, plan, now_ms), now_ms)
        return
    if row.release not in releases.releases:
        reason = f"release {row.release} is no longer among the signed releases"
        _change(connection, number, "stop", reason, now_ms)
        return
    if now_ms < plan.not_before_ms:
        return
    if row.wave_began_at_ms is None:
        _assign(connection, row, plan, now_ms)
    else:
        _join(connection, row, plan, row.wave, now_ms)
    wave = row.wave
    judged = _judge(connection, row, plan, now_ms)
    if _stop_if_judged(connection, number, judged, now_ms):
        return
    if judged.verdict == "done":
        _change(connection, number, "finish", judged.reason, now_ms)
        return
    if judged.verdict == "next wave":
        wave += 1
        values = {"wave": wave, "wave_began_at_ms": now_ms}
        connection.execute(update(rollouts).where(_R.id == number).values(values))
    _order(connection, row, plan, wave, now_ms)


def _stop_if_judged(connection: Connection, number: int, judged: Judgement, now_ms: int) -> bool:
    """Stop a rollout whose boxes fail; return whether it is stopped. Boxes of a paused rollout continue, too."""
    if judged.verdict == "stop":
        _change(connection, number, "stop", judged.reason, now_ms)
    return judged.verdict == "stop"


def _judge(connection: Connection, row: Any, plan: RolloutPlan, now_ms: int) -> Judgement:
    figures = read_figures(connection, row.id, len(plan.waves))
    return judge(plan, figures, row.wave, row.wave_began_at_ms or now_ms, now_ms)


def _end_silent(connection: Connection, number: int, now_ms: int) -> None:
    is_late = and_(_O.rollout == number, IS_OPEN, _O.deadline_ms <= now_ms)
    silent = {"ending": "silent", "ended_at_ms": now_ms}
    count = connection.execute(update(update_orders).where(is_late).values(silent)).rowcount
    if count:
        _record(connection, number, "end-update", f"{count} boxes did not answer in time", now_ms)


def _assign(connection: Connection, row: Any, plan: RolloutPlan, now_ms: int) -> None:
    """Distribute the boxes of the group over the waves in the order of a hash, so that waves span sites."""
    connection.execute(update(rollouts).where(_R.id == row.id).values(wave_began_at_ms=now_ms))
    group = sorted(_group(connection, row.id, plan), key=lambda box: _order_key(row.id, box))
    begin = 0
    for wave, size in enumerate(plan.wave_sizes(len(group))):
        _insert(connection, row, group[begin : begin + size], wave, now_ms)
        begin += size


def _join(connection: Connection, row: Any, plan: RolloutPlan, wave: int, now_ms: int) -> None:
    """Add boxes that joined the group later to the running wave."""
    _insert(connection, row, _group(connection, row.id, plan), wave, now_ms)


def _group(connection: Connection, number: int, plan: RolloutPlan) -> Sequence[str]:
    """Return the boxes of the group that are not in the rollout yet."""
    known = select(_O.box).where(_O.rollout == number)
    query = select(boxes.c.serial).select_from(PLACED_BOXES).where(find_group(plan))
    return connection.scalars(query.where(boxes.c.serial.not_in(known)).order_by(boxes.c.serial)).all()


def _insert(connection: Connection, row: Any, serials: Sequence[str], wave: int, now_ms: int) -> None:
    common = {"rollout": row.id, "release": row.release, "wave": wave, "joined_at_ms": now_ms}
    if serials:
        connection.execute(insert(update_orders), [{**common, "box": box} for box in serials])


def _order(connection: Connection, row: Any, plan: RolloutPlan, wave: int, now_ms: int) -> None:
    """Give orders to the boxes up to a wave that are waiting, have no other order, and do not run the release."""
    waiting = and_(
        _O.rollout == row.id, _O.wave <= wave, _O.ordered_at_ms.is_(None), _O.ended_at_ms.is_(None)
    )
    running = box_releases.c.data if row.kind == "data" else box_releases.c.running
    has_moved = update_orders.alias("moved")
    present = or_(
        _O.box.in_(select(box_releases.c.box).where(running >= row.release)),
        _O.box.in_(
            select(has_moved.c.box).where(has_moved.c.step == "committed", has_moved.c.release == row.release)
        ),
    )
    ended = {"ending": "present", "ended_at_ms": now_ms}
    connection.execute(update(update_orders).where(waiting, present).values(ended))
    open_order = update_orders.alias("open_order")
    has_order = select(open_order.c.box).where(
        open_order.c.ordered_at_ms.is_not(None), open_order.c.ended_at_ms.is_(None)
    )
    ordered = {"ordered_at_ms": now_ms, "deadline_ms": now_ms + plan.answer_ms}
    statement = update(update_orders).where(waiting, _O.box.not_in(has_order)).values(ordered)
    count = connection.execute(statement).rowcount
    if count:
        text = f"{count} boxes of wave {wave + 1} are to install release {row.release}"
        _record(connection, row.id, "order-update", text, now_ms)


def _change(connection: Connection, number: int, event: RolloutEvent, reason: str, now_ms: int) -> None:
    change_state(connection, number, event, reason, now_ms)
    _record(connection, number, f"{event}-rollout", reason, now_ms)
    _log.log(
        logging.WARNING if event == "stop" else logging.INFO, "rollout %d: %s: %s", number, event, reason
    )


def _record(connection: Connection, number: int, action: str, reason: str, now_ms: int) -> None:
    entry = AuditEntry(now_ms, ACTOR, "", action, "Rollout", str(number), "", "", "permitted", "", reason)
    append_within(connection, [entry])


def _order_key(number: int, box: str) -> bytes:
    return sha256(f"{number}\0{box}".encode()).digest()
