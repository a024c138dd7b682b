"""Writes docs/reference/audit-events.md from `wire.audit_events`; `make golden` runs it."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Final

from wire.audit_events import AuditEvent

PAGE: Final = Path("docs/reference/audit-events.md")
_PARTS: Final = re.compile(r"(?P<what>.+?\.)(?: Value: (?P<value>.+?)\.)? Action: (?P<action>.+)", re.DOTALL)
HEAD: Final = """\
# Audit events

Written by `tools/audit_reference.py` from `wire/audit_events.py`; `make golden` regenerates it.

A box records events in its audit log and sends them to the data center. A record has the time, one of these events,
the number of the instrument port (0 if the event concerns no port) and a value (0 if the table has none). Most events
are recorded at most ten times at once and then every ten minutes, for each port.

| event | what happened | value | what to do |
|---|---|---|---|
"""


def render() -> str:
    """Return the page."""
    rows = [f"| `{event}` | {' | '.join(describe(event))} |\n" for event in AuditEvent]
    return HEAD + "".join(rows)


def describe(event: AuditEvent) -> tuple[str, str, str]:
    """Return the event, the meaning of the value ("" if it has none), and the action to take.

    Raises: KeyError if the event is not documented.
    """
    match = _PARTS.fullmatch(_DOCSTRINGS[event.name])
    if match is None:
        raise KeyError(
            f"wire/audit_events.py: the docstring of {event.name} is `What. [Value: unit.] Action: what.`"
        )
    return match["what"], match["value"] or "", match["action"]


def _docstrings() -> dict[str, str]:
    body = ast.parse(inspect.getsource(AuditEvent)).body[0]
    assert isinstance(body, ast.ClassDef)
    docstrings = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.Assign) and isinstance(following, ast.Expr):
            assert isinstance(statement.targets[0], ast.Name)
            docstrings[statement.targets[0].id] = " ".join(ast.literal_eval(following.value).split())
    return docstrings


_DOCSTRINGS: Final = _docstrings()

if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
