"""The orders of boxes: the state that a box reports, the order it has, and whether it must be notified."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select

from datacenter.releases.folder import ReleaseSet
from datacenter.releases.plan import decode_plan
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_releases, boxes, rollouts, sites, update_orders
from wire.release.messages import NO_ORDER, UpdateOrder, UpdateState

_B: Final = box_releases.c
_O: Final = update_orders.c
IS_OPEN: Final = and_(_O.ordered_at_ms.is_not(None), _O.ended_at_ms.is_(None))
"""Whether a row of `update_orders` is an order that its box has to follow."""
_TABLES: Final = (
    boxes.outerjoin(sites, boxes.c.site == sites.c.site)
    .outerjoin(update_orders, and_(_O.box == boxes.c.serial, IS_OPEN))
    .outerjoin(rollouts, rollouts.c.id == _O.rollout)
)
_ORDER: Final = (
    select(_O.id, _O.release, rollouts.c.plan, sites.c.zone)
    .select_from(_TABLES)
    .where(boxes.c.serial == bindparam("of_box"), boxes.c.dismissed_at_ms.is_(None))
)
_FORGET: Final = delete(box_releases).where(_B.box == bindparam("of_box"))


def exchange_order(
    store: Store, releases: ReleaseSet, box: str, state: UpdateState, now_ms: int
) -> UpdateOrder | None:
    """Store the state that a box reports, and return its order; None if it is not an authorized box.

    Raises: StoreError.
    """
    reported = {
        "box": box,
        "running": state.running,
        "data": state.data,
        "slot_sha256": state.slot_sha256,
        "other_sha256": state.other_sha256,
        "follows": state.order,
        "asked_at_ms": now_ms,
    }
    with store.transaction() as connection:
        order = connection.execute(_ORDER, {"of_box": box}).one_or_none()
        if order is None:
            return None
        release = releases.releases.get(order.release)
        connection.execute(_FORGET, {"of_box": box})
        connection.execute(insert(box_releases), {**reported, "told": order.id if release else 0})
    if release is None:
        return NO_ORDER
    plan = decode_plan(order.plan)
    zone, now_s = ZoneInfo(order.zone or "UTC"), now_ms // 1000
    return UpdateOrder(
        order.id,
        release.number,
        release.kind,
        releases.versions,
        plan.not_before_ms // 1000,
        plan.restart.times(zone, now_s) if plan.restart else (),
        plan.may_fetch_slot,
    )


def find_boxes_to_notify(store: Store) -> set[str]:
    """Return the boxes that must fetch their order: those that follow or were notified of another order.

    Raises: StoreError.
    """
    order = func.coalesce(_O.id, 0)
    tables = box_releases.outerjoin(update_orders, and_(_O.box == _B.box, IS_OPEN))
    query = select(_B.box).select_from(tables).where(or_(order != _B.follows, order != _B.told))
    return {box for (box,) in store.read(query)}
