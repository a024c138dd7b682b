"""The exception for a run that cannot end, with a description of the tasks that are waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, Final

TASKS_NAMED_MAX: Final = 10
"""Maximum number of waiting tasks listed in a message."""


class Stalled(Exception):
    """The run cannot end. The message gives the reason, and the source line at which each task waits."""


def stalled(why: str, tasks: Iterable[asyncio.Task[Any]]) -> Stalled:
    """Create the exception for a run that stopped because of `why` while `tasks` were not done."""
    waiting = sorted(tasks, key=lambda task: int(task.get_name().rpartition("-")[2] or 0))
    lines = [f"  {describe(task)}" for task in waiting[:TASKS_NAMED_MAX]]
    if len(waiting) > TASKS_NAMED_MAX:
        lines.append(f"  and {len(waiting) - TASKS_NAMED_MAX} more")
    return Stalled("\n".join([f"{why}; tasks that are not done:" if lines else why, *lines]))


def describe(task: asyncio.Task[Any]) -> str:
    """Return a task's chain of awaited coroutines: "BoxMachine._run (machine.py:211) → Event.wait (locks.py:213)"."""
    locations = [_location(coroutine) for coroutine in _chain(task.get_coro())]
    return " → ".join(locations) or task.get_name()


def _chain(coroutine: Any) -> Iterator[Any]:
    """Yield a coroutine and the Python coroutines and generators that it awaits, outermost first."""
    while _code(coroutine) is not None:
        yield coroutine
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _location(coroutine: Any) -> str:
    code, frame = (
        _code(coroutine),
        getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None),
    )
    assert code is not None
    line = code.co_firstlineno if frame is None else frame.f_lineno
    return f"{code.co_qualname} ({Path(code.co_filename).name}:{line})"


def _code(coroutine: Any) -> CodeType | None:
    return getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
