"""All weakened tables: one guard, one way to an end or one assumption is removed, or one more actor may authorize.

Each must have a counterexample; otherwise the removed part is redundant, or a property is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sim.sessions.explore import Exploration, Successors, explore_with
from sim.sessions.model import ALL, Assumptions, Scope
from wire.session.table import TABLE, Actor, Event, Row, SessionState

SCOPES: Final = (Scope(1, 0), Scope(1, 1), Scope(2, 0))
"""Scopes that are searched for a counterexample, the smallest first."""


class SessionMutant(NamedTuple):
    """A weakened table or assumption."""

    name: str
    table: tuple[Row, ...] = TABLE
    assumptions: Assumptions = ALL


def mutants(table: Sequence[Row] = TABLE) -> Iterator[SessionMutant]:
    """Yield every mutant that lacks one guard or assumption, or in which one more actor may authorize a session."""
    for number, row in enumerate(table):
        for guard in row.guards:
            remaining = tuple(other for other in row.guards if other != guard)
            yield SessionMutant(
                f"{row.name} without {guard}", _with(table, number, row._replace(guards=remaining))
            )
        if row.event is Event.AUTHORIZE:
            for actor in Actor:
                if actor not in row.actors:
                    widened = row._replace(actors=(*row.actors, actor))
                    yield SessionMutant(f"{row.name} also by the {actor}", _with(table, number, widened))
    for assumption in Assumptions._fields:
        yield SessionMutant(f"without {assumption}", tuple(table), ALL._replace(**{assumption: False}))


def endless_mutants(table: Sequence[Row] = TABLE) -> Iterator[SessionMutant]:
    """Yield, for each row that ends a session and each of its states, a mutant whose row excludes that state."""
    for number, row in enumerate(table):
        if row.next in (SessionState.ENDING, SessionState.ENDED):
            for state in row.states:
                kept_states = tuple(other for other in row.states if other is not state)
                mutated = _with(table, number, row._replace(states=kept_states))
                yield SessionMutant(f"{row.name} not from {state}", mutated)


def without(guard: str, table: Sequence[Row] = TABLE) -> tuple[Row, ...]:
    """Return the table with a guard removed from every row."""
    return tuple(row._replace(guards=tuple(other for other in row.guards if other != guard)) for row in table)


def counterexample(mutant: SessionMutant, scopes: Sequence[Scope] = SCOPES) -> Exploration | None:
    """Return the exploration that violates a property, in the smallest scope that has one; None if none has."""
    successors = Successors(mutant.table, mutant.assumptions)
    for scope in scopes:
        explored = explore_with(successors, scope)
        if explored.violation:
            return explored
    return None


def _with(table: Sequence[Row], number: int, row: Row) -> tuple[Row, ...]:
    return (*table[:number], row, *table[number + 1 :])
