"""Counts the boxes of a rollout, by wave and outcome."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from sqlalchemy import Connection, case, func, select

from datacenter.releases.judgement import WaveFigures
from datacenter.releases.states import FAILURES, BoxState, RolloutProgress
from datacenter.store.tables.schema import update_orders

_O: Final = update_orders.c
_IS_ORDERED: Final = case((_O.ordered_at_ms.is_(None), 0), else_=1)


def read_states(connection: Connection, rollout: int) -> dict[int, dict[BoxState, tuple[int, int]]]:
    """Return by wave and state the number of boxes, and when the latest order ended in ms (0 if none did)."""
    grouped = (_O.wave, _IS_ORDERED, _O.step, _O.ending)
    query = select(*grouped, func.count(), func.max(_O.ended_at_ms)).where(_O.rollout == rollout)
    counts: defaultdict[int, dict[BoxState, tuple[int, int]]] = defaultdict(dict)
    for wave, is_ordered, step, ending, count, ended_at_ms in connection.execute(query.group_by(*grouped)):
        state = RolloutProgress(bool(is_ordered), step, ending).state
        before, before_ms = counts[wave].get(state, (0, 0))
        counts[wave][state] = before + count, max(before_ms, ended_at_ms or 0)
    return counts


def read_figures(connection: Connection, rollout: int, waves: int) -> list[WaveFigures]:
    """Return the figures of each wave."""
    counts = read_states(connection, rollout)
    return [_figures(counts.get(wave, {})) for wave in range(waves)]


def _figures(states: dict[BoxState, tuple[int, int]]) -> WaveFigures:
    def count(*wanted: Any) -> int:
        return sum(states[state][0] for state in wanted if state in states)

    total = count(*states)
    apart = {
        "present": count("present"),
        "waiting": count("waiting"),
        "committed": count("committed"),
        "failed": count(*FAILURES),
        "withdrawn": count("withdrawn"),
    }
    ended = [ended_ms for state, (_, ended_ms) in states.items() if state != "present"]
    return WaveFigures(total, open=total - sum(apart.values()), last_ended_ms=max(ended, default=0), **apart)
