"""One step of a session at one end: which row of the table an event selects, and why an event changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from wire.session.guards import GUARDS, Facts
from wire.session.table import TABLE, Actor, End, Event, Row, SessionState


class Refusal(NamedTuple):
    """An event that changes nothing, with the reason for the audit log."""

    reason: str


def step(
    end: End, state: SessionState, event: Event, actor: Actor, facts: Facts, table: Sequence[Row] = TABLE
) -> Row | Refusal:
    """Return the row to execute, or the reason why the event changes nothing.

    The caller writes the audit record of the row before it calls again with `audit_written`, and executes the row's
    actions only if the row is returned again. Rows to `ending` and `ended` need no record: a full disk must not keep
    a session open.
    """
    reasons = []
    for row in rows(end, state, event, table):
        if actor not in row.actors:
            reasons.append(f"{event} cannot be caused by the {actor}")
        elif failed := [name for name in row.guards if not GUARDS[name](facts)]:
            reasons.append(f"not {', '.join(failed)}")
        else:
            return row
    return Refusal("; ".join(reasons) or f"{event} has no effect in the state {state}")


def rows(end: End, state: SessionState, event: Event, table: Iterable[Row] = TABLE) -> list[Row]:
    """Return the rows of an event in a state, in the order in which they are tried."""
    return [row for row in table if row.event == event and end in row.ends and state in row.states]
