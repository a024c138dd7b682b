"""Moves that affect all sessions at once: time, crashes and restarts of programs, failures of the line, the data
center or the box.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from sim.sessions.model import BOX, DC, NEITHER, TIME_MAX, Assumptions, ModelSession, Setting, set_at
from sim.sessions.moves import ENDS, Moves

Effect: TypeAlias = Callable[[ModelSession], ModelSession]


class SettingChange(NamedTuple):
    """A change of the surroundings (`Setting`), and its effect on every session."""

    text: str
    setting: Setting
    effect: Effect
    is_fair: bool = False
    """Whether it happens eventually."""
    is_tick: bool = False
    cost: int = 0
    """The number of disturbances that it uses up."""


def shifts(
    setting: Setting, moves: Moves, assumptions: Assumptions, can_disturb: bool
) -> Iterator[SettingChange]:
    """Yield every change of the surroundings, with disturbances if any may still occur."""
    if setting.time < TIME_MAX:
        yield _tick(setting, assumptions)
    for end in (DC, BOX):
        if not setting.up[end]:
            yield _restart(setting, end, moves)
    if not setting.is_line_up:
        yield SettingChange("the line returns", setting._replace(is_line_up=True), _unchanged)
    if can_disturb:
        for shift in _disturbances(setting, assumptions):
            yield shift._replace(cost=1)


def _unchanged(session: ModelSession) -> ModelSession:
    return session


def _tick(setting: Setting, assumptions: Assumptions) -> SettingChange:
    time = setting.time + 1

    def expire(session: ModelSession) -> ModelSession:
        if not assumptions.kernel_timeout or session.paths == NEITHER:
            return session
        dc, box = (
            path and time <= deadline for path, deadline in zip(session.paths, session.deadlines, strict=True)
        )
        return session._replace(paths=(dc, box))

    return SettingChange(
        f"time {time} begins", setting._replace(time=time), expire, is_fair=True, is_tick=True
    )


def _restart(setting: Setting, end: int, moves: Moves) -> SettingChange:
    started = setting._replace(up=set_at(setting.up, end, True))
    text = f"the {ENDS[end]}'s program starts again"
    return SettingChange(text, started, lambda session: moves.restarted(started, session, end), is_fair=True)


def _crash(setting: Setting, end: int, assumptions: Assumptions) -> SettingChange:
    def kill(session: ModelSession) -> ModelSession:
        return session._replace(endpoints=set_at(session.endpoints, end, False))

    text, crashed = f"the {ENDS[end]}'s program crashes", setting._replace(up=set_at(setting.up, end, False))
    return SettingChange(text, crashed, kill if assumptions.dies_with_program else _unchanged)


def _disturbances(setting: Setting, assumptions: Assumptions) -> Iterator[SettingChange]:
    for end in (DC, BOX):
        if setting.up[end]:
            yield _crash(setting, end, assumptions)
        if setting.audits[end]:
            audits = set_at(setting.audits, end, False)
            yield SettingChange(
                f"the audit log of the {ENDS[end]} fails", setting._replace(audits=audits), _unchanged
            )
        if setting.fences[end]:
            fences = set_at(setting.fences, end, False)
            yield SettingChange(
                f"the firewall of the {ENDS[end]} fails", setting._replace(fences=fences), _unchanged
            )
    if setting.is_line_up:
        yield SettingChange("the line is lost", setting._replace(is_line_up=False), _unchanged)
    if setting.recording:
        yield SettingChange("the recording fails", setting._replace(recording=False), _unchanged)
    if not setting.is_clock_behind:
        yield SettingChange(
            "the wall clock of the box is set back", setting._replace(is_clock_behind=True), _unchanged
        )
