"""Begins and ends the alerts of silence of all boxes, in one transaction, periodically: no record triggers this.

The silence of an instrument follows from records (`datacenter.evaluation.silence_state`), that of a box from the data
center's clock. Time in which no data center was running does not count for a box, because the box could not send. The
row of `silence_state` without a box holds the time of the latest check, and since when the data center has been
running.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, exists, insert, or_, select, text, update

from datacenter.evaluation.alerts import Begun, Ended, begin_silence, end_alert
from datacenter.evaluation.outage import Unit, is_alone, outage_began_ms, units_of
from datacenter.evaluation.silence_state import Ending
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store.store import Store
from datacenter.store.tables.schema import alerts, boxes, silence_state
from datacenter.triggers.silencefile import SilenceTrigger

DOWN_MS: Final = 180_000
"""A data center without a check for longer than this was not running."""
_S: Final = silence_state.c


class _Site(NamedTuple):
    """The boxes of a site, their instruments with a silence trigger, and the rows of both."""

    boxes: list[Unit]
    instruments: list[Unit]
    rows: dict[Unit, Any]


class SilenceWatch:
    """Looks for silence with one set of triggers. Calls block; several processes may call at the same time."""

    def __init__(self, store: Store, triggers: TriggerSet) -> None:
        self._store, self._triggers = store, triggers

    def advance(self, now_ms: int) -> tuple[list[Begun], list[Ended]]:
        """Begin and end alerts. Raises: StoreError."""
        begun: list[Begun] = []
        ended: list[Ended] = []
        if self._triggers.silences:
            with self._store.transaction() as connection:
                up_ms = _up_since_ms(connection, now_ms)
                for units in _sites(connection, self._triggers, now_ms, up_ms).values():
                    self._advance(connection, units, now_ms, begun, ended)
        return begun, ended

    def _advance(
        self,
        connection: Connection,
        site: _Site,
        now_ms: int,
        begun: list[Begun],
        ended: list[Ended],
    ) -> None:
        all_boxes, instruments, rows = site
        units = units_of(all_boxes, instruments)
        for unit in all_boxes:
            if unit.silent_ms is None and (id_ := rows[unit].alert) is not None:
                ended += end_alert(connection, id_, unit.last_seen_ms, now_ms)
                _set_alert(connection, unit, None)
        if self._is_outage(connection, site, now_ms, begun, ended):
            return
        of_site = self._triggers.silence("", "site")
        lasts_ms = max(trigger.lasts_ms for trigger in self._triggers.silences.values())
        for unit in units:
            trigger = self._triggers.silence(rows[unit].model, "instrument" if unit.instrument else "box")
            if unit.silent_ms is None or rows[unit].alert is not None or trigger is None:
                continue
            if of_site is None or is_alone(unit, units, of_site.lasts_ms, lasts_ms, now_ms):
                begun.append(_begin(connection, unit, rows[unit], trigger, now_ms))

    def _is_outage(
        self,
        connection: Connection,
        site: _Site,
        now_ms: int,
        begun: list[Begun],
        ended: list[Ended],
    ) -> bool:
        """Begin or end the alert of a site; return whether its members get no alerts now (see `outage`)."""
        all_boxes, instruments, rows = site
        trigger = self._triggers.silence("", "site")
        if trigger is None or not rows[all_boxes[0]].site:
            return False
        a = alerts.c
        names = [unit.box for unit in all_boxes]
        of_site = and_(a.box.in_(names), a.trigger == trigger.name)
        latest = connection.execute(
            select(a.id, a.ended_at_ms, a.resolved_at_ms)
            .where(of_site)
            .order_by(a.began_at_ms.desc())
            .limit(1)
        ).first()
        began_ms = outage_began_ms(all_boxes, instruments)
        is_open = latest is not None and latest.ended_at_ms is None
        if began_ms is None:
            if is_open and latest is not None:
                units = units_of(all_boxes, instruments)
                last_seen = [unit.last_seen_ms for unit in units if unit.silent_ms is None]
                ended += end_alert(connection, latest.id, min(last_seen, default=now_ms), now_ms)
                return True
            return latest is not None and now_ms < (latest.resolved_at_ms or 0) + trigger.lasts_ms
        if not is_open:
            first = all_boxes[0]
            members = [unit.instrument or unit.box for unit in (*all_boxes, *instruments)]
            begun.append(
                begin_silence(
                    connection,
                    (first.box, "", 0, began_ms),
                    trigger,
                    "",
                    began_ms,
                    now_ms,
                    last_seen_ms=max(unit.last_seen_ms for unit in (*all_boxes, *instruments)),
                    members=members,
                )
            )
        return True


def record_endings(
    connection: Connection, triggers: TriggerSet, box: str, endings: Sequence[Ending], now_ms: int
) -> tuple[list[Begun], list[Ended]]:
    """End the alerts of instruments that reported again; a silence that was found late gets its alert first."""
    begun: list[Begun] = []
    ended: list[Ended] = []
    for ending in endings:
        id_ = ending.was.alert
        trigger = triggers.silence(ending.was.model or "", "instrument")
        assert ending.was.silent_ms is not None, "the unit is silent"
        unit = Unit(box, ending.instrument, ending.was.last_seen_ms, ending.was.silent_ms)
        if id_ is None and trigger and not _was_outage(connection, triggers, unit, ending.at_ms):
            begun.append(_begin(connection, unit, ending.was, trigger, now_ms))
            id_ = begun[-1].id
        if id_ is not None:
            ended += end_alert(connection, id_, ending.at_ms, now_ms, (ending.run, ending.number))
    return begun, ended


def _was_outage(connection: Connection, triggers: TriggerSet, unit: Unit, until_ms: int) -> bool:
    """Return whether the site has an alert for this time."""
    trigger = triggers.silence("", "site")
    if trigger is None:
        return False
    a, mine = alerts.c, boxes.alias("mine")
    same_site = and_(boxes.c.serial == a.box, boxes.c.site == mine.c.site, mine.c.serial == unit.box)
    overlaps = and_(a.began_at_ms <= until_ms, or_(a.ended_at_ms.is_(None), a.ended_at_ms >= unit.silent_ms))
    query = select(exists().where(a.trigger == trigger.name, overlaps, same_site))
    return bool(connection.scalar(query))


def _begin(connection: Connection, unit: Unit, row: Any, trigger: SilenceTrigger, now_ms: int) -> Begun:
    assert unit.silent_ms is not None, "the unit is silent"
    key = (unit.box, unit.instrument, row.run, row.number or unit.last_seen_ms)
    begun = begin_silence(
        connection, key, trigger, row.model or "", unit.silent_ms, now_ms, last_seen_ms=unit.last_seen_ms
    )
    _set_alert(connection, unit, begun.id)
    return begun


def _set_alert(connection: Connection, unit: Unit, id_: str | None) -> None:
    this = and_(_S.box == unit.box, _S.instrument == unit.instrument)
    connection.execute(update(silence_state).where(this).values(alert=id_))


def _up_since_ms(connection: Connection, now_ms: int) -> int:
    """Record the time of this check; return since when the data center has been running. Excludes other processes."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(5932449)"))
    this = and_(_S.box == "", _S.instrument == "")
    if connection.execute(update(silence_state).where(this).values(run=0)).rowcount == 0:
        new = {"box": "", "instrument": "", "last_seen_ms": now_ms, "counts_from_ms": now_ms}
        connection.execute(insert(silence_state).values(new))
        return now_ms
    row = connection.execute(select(silence_state).where(this)).one()
    up_ms = int(row.counts_from_ms) if now_ms <= row.last_seen_ms + DOWN_MS else now_ms
    connection.execute(
        update(silence_state)
        .where(this)
        .values(last_seen_ms=max(now_ms, row.last_seen_ms), counts_from_ms=up_ms)
    )
    return up_ms


def _sites(connection: Connection, triggers: TriggerSet, now_ms: int, up_ms: int) -> dict[str, _Site]:
    """Return the boxes, the instruments with a silence trigger, and their rows, by site; without one, by box."""
    sites: dict[str, _Site] = defaultdict(lambda: _Site([], [], {}))
    of_box = triggers.silence("", "box")
    query = (
        select(silence_state, boxes.c.site)
        .join(boxes, boxes.c.serial == _S.box)
        .where(boxes.c.dismissed_at_ms.is_(None))
        .order_by(_S.box, _S.instrument)
        .with_for_update(of=silence_state)
    )
    for row in connection.execute(query):
        all_boxes, instruments, rows = sites[row.site or f"box {row.box}"]
        if row.instrument:
            if triggers.silence(row.model or "", "instrument") is None:
                continue
            unit = Unit(row.box, row.instrument, row.last_seen_ms, row.silent_ms)
            instruments.append(unit)
        else:
            unit = Unit(row.box, "", row.last_seen_ms, _silent_ms(connection, row, of_box, now_ms, up_ms))
            all_boxes.append(unit)
        rows[unit] = row
    return sites


def _silent_ms(
    connection: Connection, row: Any, trigger: SilenceTrigger | None, now_ms: int, up_ms: int
) -> int | None:
    """Return since when a box is silent. A silence lasts until the box sends, even if the data center restarts."""
    silent_ms = row.silent_ms
    if silent_ms is not None and row.last_seen_ms >= silent_ms:
        silent_ms = None
    if silent_ms is None and trigger and now_ms >= max(row.last_seen_ms, up_ms) + trigger.lasts_ms:
        silent_ms = row.last_seen_ms + trigger.lasts_ms
    if silent_ms != row.silent_ms:
        this = and_(_S.box == row.box, _S.instrument == "")
        connection.execute(update(silence_state).where(this).values(silent_ms=silent_ms))
    return int(silent_ms) if silent_ms is not None else None
