"""Breadth-first exploration of every reachable state of the model, so that counterexamples are as short as possible.

A state of the whole model is a *world*: the *setting* (the surroundings of all sessions), and the state of each
session. A transition is a *move*. The possible moves of a session depend on its state, on the setting, and on a few
properties of the other sessions. They are computed once for each such combination, and reused in all worlds that
contain it.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from sim.sessions.model import ALL, Assumptions, ModelSession, Others, Scope, Setting, others
from sim.sessions.moves import Move, Moves
from sim.sessions.properties import can_pass, endless, sentence, shifted_violation, unstoppable, violation
from sim.sessions.surroundings import SettingChange, shifts
from wire.session.table import TABLE, Row


@dataclass(frozen=True)
class Exploration:
    """The result of an exploration, with the first violation."""

    scope: Scope
    states: int
    moves: int
    violation: str = ""
    """The violated property, or ""."""
    trace: tuple[str, ...] = ()
    """The moves from the start to the violation."""
    rows: frozenset[Row] = frozenset()
    """The rows that were executed, if there is no violation."""

    def as_json(self) -> dict[str, object]:
        """Return the result for `--json`."""
        summary = {"scope": str(self.scope), "states": self.states, "moves": self.moves}
        return {**summary, "violation": self.violation, "trace": list(self.trace)}

    def text(self) -> str:
        """Return the result in words, with a numbered trace."""
        summary = f"{self.scope}: {self.states:,} states, {self.moves:,} moves"
        if not self.violation:
            return f"{summary}: all properties hold"
        steps = (f"  {number:2}. {move}" for number, move in enumerate(self.trace, 1))
        return "\n".join([f"{summary}, until:", *steps, f"  {self.violation}."])


World: TypeAlias = tuple[int, ...]
"""The count of disturbances that may still occur, the number of the setting, and those of the sessions' states."""


class Next(NamedTuple):
    """A move, which is a step of one session or a change of the surroundings, and the world that follows.

    `setting` and `sessions` are the numbers of their states (`Numbers`).
    """

    text: str
    setting: int
    sessions: tuple[int, ...]
    is_fair: bool
    """Whether it happens without a person's decision and without the line."""
    violation: str
    """The property that the move violates; "" if none."""
    cost: int
    """The number of disturbances that it uses up."""
    is_tick: bool = False


class Unstoppable(Exception):
    """One of the parties cannot end a session of a world; the exploration ends with this violation."""


class Successors:
    """The moves of worlds under one table, each computed once."""

    def __init__(self, table: Sequence[Row], assumptions: Assumptions) -> None:
        self._rules = Moves(table)
        self._assumptions = assumptions
        self._settings = Numbers[Setting]()
        self._sessions = Numbers[ModelSession]()
        self._others: dict[tuple[int, ...], Others] = {}
        self._moves: dict[tuple[int, int, Others, bool], tuple[Next, ...]] = {}
        self._shifts: dict[tuple[int, bool], tuple[SettingChange, ...]] = {}
        self._shifted: dict[tuple[int, int, bool], tuple[Next, ...]] = {}
        self.rows: set[Row] = set()
        """The rows that were executed."""
        self.passes = False
        """Whether packets could pass in some world; a table under which none ever pass is safe, but useless."""

    def start(self, scope: Scope) -> World:
        """Return the initial world."""
        session = self._sessions.number(ModelSession())
        return (scope.disturbances, self._settings.number(Setting()), *(session,) * scope.sessions)

    def of(self, world: World) -> Iterator[Next]:
        """Yield every move of the world."""
        left, setting, sessions = world[0], world[1], world[2:]
        is_due = False
        for index, session in enumerate(sessions):
            before, after = sessions[:index], sessions[index + 1 :]
            for move in self._moves_of(setting, session, before + after, left > 0):
                is_due = is_due or move.is_fair
                text = f"session {index + 1} {move.text}"
                changed = before + move.sessions + after
                yield Next(text, setting, changed, move.is_fair, move.violation, move.cost)
        for shifted in zip(
            *(self._shifts_of(setting, session, left > 0) for session in sessions), strict=True
        ):
            first = shifted[0]
            if not (first.is_tick and is_due):
                broken = next((move.violation for move in shifted if move.violation), "")
                yield first._replace(sessions=tuple(move.sessions[0] for move in shifted), violation=broken)

    def is_endless(self, world: World) -> bool:
        """Return whether a session of the world has not ended."""
        return any(endless(self._sessions[session]) for session in world[2:])

    def _moves_of(
        self, setting: int, session: int, rest: tuple[int, ...], can_disturb: bool
    ) -> tuple[Next, ...]:
        if rest not in self._others:
            self._others[rest] = others([self._sessions[number] for number in rest])
        key = (setting, session, self._others[rest], can_disturb)
        if key not in self._moves:
            moves = self._compute_moves(
                self._settings[setting], self._sessions[session], self._others[rest], can_disturb
            )
            self._moves[key] = tuple(moves)
        return self._moves[key]

    def _compute_moves(
        self, setting: Setting, session: ModelSession, rest: Others, can_disturb: bool
    ) -> Iterator[Next]:
        moves = list(self._rules.after(setting, session, rest, can_disturb))
        if unstoppable(setting, session, moves):
            raise Unstoppable
        number = self._settings.number(setting)
        for move in moves:
            if move.session != session:
                sessions = (self._sessions.number(move.session),)
                broken = violation(setting, session, move)
                self._record(move, setting)
                yield Next(move.text, number, sessions, move.is_due, broken, move.cost)

    def _record(self, move: Move, setting: Setting) -> None:
        if move.row:
            self.rows.add(move.row)
        self.passes = self.passes or can_pass(setting, move.session)

    def _shifts_of(self, setting: int, session: int, can_disturb: bool) -> tuple[Next, ...]:
        key = (setting, session, can_disturb)
        if key not in self._shifted:
            self._shifted[key] = tuple(self._compute_shifts(setting, self._sessions[session], can_disturb))
        return self._shifted[key]

    def _compute_shifts(self, setting: int, session: ModelSession, can_disturb: bool) -> Iterator[Next]:
        before, key = self._settings[setting], (setting, can_disturb)
        if key not in self._shifts:
            self._shifts[key] = tuple(shifts(before, self._rules, self._assumptions, can_disturb))
        for shift in self._shifts[key]:
            after = shift.effect(session)
            broken = shifted_violation(before, session, shift, after)
            sessions = (self._sessions.number(after),)
            number = self._settings.number(shift.setting)
            yield Next(shift.text, number, sessions, shift.is_fair, broken, shift.cost, shift.is_tick)


T = TypeVar("T", bound=Hashable)


class Numbers(Generic[T]):
    """Consecutive numbers for values, in the order of their first use."""

    def __init__(self) -> None:
        self._numbers: dict[T, int] = {}
        self._values: list[T] = []

    def number(self, value: T) -> int:
        """Return the value's number."""
        number = self._numbers.setdefault(value, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        return number

    def __getitem__(self, number: int) -> T:
        return self._values[number]


def explore(scope: Scope, table: Sequence[Row] = TABLE, assumptions: Assumptions = ALL) -> Exploration:
    """Explore every world of the scope, until a property is violated or none is left."""
    return explore_with(Successors(table, assumptions), scope)


def explore_with(successors: Successors, scope: Scope) -> Exploration:
    """Explore a scope with the moves that earlier explorations have computed."""
    start = successors.start(scope)
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    waiting = deque([start])
    moves = 0

    def violated(sentence: str, world: World, *last: str) -> Exploration:
        return Exploration(scope, len(came_from), moves, sentence, (*_trace(came_from, world), *last))

    with _without_garbage_collection():
        while waiting:
            world = waiting.popleft()
            is_fair = False
            try:
                following = list(successors.of(world))
            except Unstoppable:
                return violated(sentence(unstoppable), world)
            for move in following:
                is_fair = is_fair or move.is_fair
                if move.violation:
                    return violated(move.violation, world, move.text)
                after = (world[0] - move.cost, move.setting, *move.sessions)
                if (key := _canonical(after)) not in came_from:
                    came_from[key] = (world, move.text)
                    waiting.append(after)
            moves += len(following)
            if not is_fair and successors.is_endless(world):
                return violated(sentence(endless), world)
    if not successors.passes:
        return violated("Packets can never pass", start)
    return Exploration(scope, len(came_from), moves, rows=frozenset(successors.rows))


def _canonical(world: World) -> World:
    """Return the world with its sessions sorted, since their order has no meaning."""
    return (*world[:2], *sorted(world[2:]))


def _trace(came_from: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    moves = []
    while step := came_from[_canonical(world)]:
        world, text = step
        moves.append(text)
    return moves[::-1]


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection, which is slow with millions of tuples and useless, since they have no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
