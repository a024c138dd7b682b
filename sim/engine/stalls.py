"""What a run that does not end is waiting for, and the exception that says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, Final

TASKS_NAMED_MAX: Final = 10
"""Of the tasks that wait, so many are listed."""


class Stalled(Exception):
    """The run cannot reach its end. The message says why, and which tasks wait where."""


def stalled(why: str, tasks: Iterable[asyncio.Task[Any]]) -> Stalled:
    """The exception for a run that stopped because of `why` while `tasks` were not done."""
    waiting = sorted(tasks, key=lambda task: int(task.get_name().rpartition("-")[2] or 0))
    lines = [f"  {describe(task)}" for task in waiting[:TASKS_NAMED_MAX]]
    if len(waiting) > TASKS_NAMED_MAX:
        lines.append(f"  and {len(waiting) - TASKS_NAMED_MAX} more")
    return Stalled("\n".join([f"{why}; tasks that are not done:" if lines else why, *lines]))


def describe(task: asyncio.Task[Any]) -> str:
    """A task's program and what it waits in: "BoxMachine._run (machine.py:211) → Event.wait (locks.py:213)"."""
    places = [_place(coroutine) for coroutine in _chain(task.get_coro())]
    return " → ".join(places) or task.get_name()


def _chain(coroutine: Any) -> Iterator[Any]:
    """A coroutine and what it awaits, as far as it is Python code."""
    while _code(coroutine) is not None:
        yield coroutine
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _place(coroutine: Any) -> str:
    code, frame = (
        _code(coroutine),
        getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None),
    )
    assert code is not None
    line = code.co_firstlineno if frame is None else frame.f_lineno
    return f"{code.co_qualname} ({Path(code.co_filename).name}:{line})"


def _code(coroutine: Any) -> CodeType | None:
    return getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
