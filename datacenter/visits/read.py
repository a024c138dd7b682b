"""Reads the parts for a visit from the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import and_, select

from datacenter.evaluation.knowledge import TriggerKnowledge
from datacenter.evaluation.state import restored
from datacenter.fleet.visible import PLACED_BOXES, Visibility
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, instruments
from datacenter.visits.parts import NEAR_SHARE, PartReason, VisitPart, combine, nearness, probability_of


def visit_parts(
    store: Store, visible: Visibility, known: TriggerKnowledge, site: str, box: str = "", instrument: str = ""
) -> list[VisitPart]:
    """Return the parts for a visit to a site, or to one instrument of a box, as far as the caller may see them.

    Raises: StoreError.
    """
    a, i = alerts.c, instruments.c
    of_alert = and_(a.box == box, a.instrument == instrument) if instrument else boxes.c.site == site
    rows = store.read(
        select(a.id, a.box, a.instrument, a.component, a.trigger, a.trigger_hash, a.parts)
        .select_from(alerts.join(PLACED_BOXES, a.box == boxes.c.serial))
        .where(visible.where("Alert"), of_alert, a.ended_at_ms.is_(None))
    )
    reasons = [reason for row in rows for reason in _of_alert(row, known)]
    of_instrument = and_(i.box == box, i.serial == instrument) if instrument else boxes.c.site == site
    states = store.read(
        select(i.box, i.serial, i.model, i.evaluation)
        .select_from(instruments.join(PLACED_BOXES, i.box == boxes.c.serial))
        .where(visible.where("Instrument"), of_instrument)
    )
    reasons += [reason for row in states for reason in _due_soon(row, known)]
    return combine(reasons)


def _of_alert(row: Any, known: TriggerKnowledge) -> Iterator[PartReason]:
    probability = probability_of(known.scores.triggers.get(row.trigger), row.trigger_hash)
    for part in (row.parts or "").splitlines():
        yield PartReason(row.box, row.instrument, row.component, part, row.trigger, row.id, probability)


def _due_soon(row: Any, known: TriggerKnowledge) -> Iterator[PartReason]:
    """Yield the parts whose triggers are close to an alert, by the state of an instrument's triggers."""
    functions = known.triggers.functions(row.model)
    if functions is None or not row.evaluation:
        return
    evaluator = restored(functions, bytes(row.evaluation))
    values = {term: function(evaluator.state) for term, function in functions.values.items()}
    for trigger, slots in zip(functions.program.triggers, functions.program.slots, strict=True):
        if evaluator.state[slots.active] or not trigger.table.parts:
            continue
        if (share := nearness(trigger, values)) >= NEAR_SHARE:
            for part in trigger.table.parts:
                yield PartReason(
                    row.box, row.serial, trigger.table.component, part, trigger.name, "", None, share
                )
