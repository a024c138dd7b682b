"""Writes docs/reference/session.md from the transition table of sessions; `make golden` runs it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

from sim.sessions.properties import SENTENCES
from wire.session.guards import GUARDS, meaning
from wire.session.table import TABLE, Cause, Event, Row, SessionState

PAGE: Final = Path("docs/reference/session.md")
HEAD: Final = """\
# Remote sessions

Written by `tools/session_reference.py` from `wire/session/table.py`; `make golden` regenerates it.

The data center and the box execute one transition table, each with a separate state. An event without a row that
applies changes nothing. Every row towards a session is recorded in the end's audit log first; if that fails, the row
is not executed. Rows towards the end are executed even if they cannot be recorded. Times are those of the monotonic
clock. [Design](../design/sessions.md).
"""


def render() -> str:
    """Return the page."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield HEAD
    yield from _diagram()
    yield "\n## States\n\n| state | meaning |\n|---|---|"
    yield from _values(SessionState)
    yield "\n## Transitions\n"
    yield "| at | in the states | event | caused by | if | next state | then | cause of the end |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in TABLE:
        yield _row(row)
    yield "\n## Events\n\n| event | meaning |\n|---|---|"
    yield from _values(Event)
    yield "\n## Guards\n\n| guard | holds if |\n|---|---|"
    for guard in GUARDS:
        yield f"| `{guard}` | {meaning(guard)} |"
    yield "\n## Causes of the end\n\n| cause | meaning |\n|---|---|"
    yield from _values(Cause)
    yield "\n## What never happens\n"
    yield "`rap session explore` proves that in no reachable state, and by no event, any of this occurs:\n"
    for sentence in SENTENCES:
        yield f"- {sentence}."


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> new"
    drawn = set()
    for row in TABLE:
        if row.next is SessionState.ENDING:
            continue  # every live state has such rows: one arrow stands for them
        for state in row.states:
            arrow = f"    {state} --> {row.next}: {row.event}"
            if state is not row.next and arrow not in drawn:
                drawn.add(arrow)
                yield arrow
    for state in dict.fromkeys(
        state for row in TABLE if row.next is SessionState.ENDING for state in row.states
    ):
        yield f"    {state} --> ending"
    yield "    ended --> [*]"
    yield "```"


def _row(row: Row) -> str:
    guards = ", ".join(f"`{guard}`" for guard in row.guards)
    at = " and ".join(row.ends)
    cells = (at, ", ".join(row.states), row.event, ", ".join(row.actors), guards, row.next)
    return f"| {' | '.join(cells)} | {', '.join(row.actions)} | {row.cause or ''} |"


def _values(values: type[StrEnum]) -> Iterator[str]:
    body = ast.parse(inspect.getsource(values)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = [
        " ".join(ast.literal_eval(each.value).split()) for each in body.body[1:] if isinstance(each, ast.Expr)
    ]
    for value, text in zip(values, texts, strict=True):
        yield f"| {value} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
