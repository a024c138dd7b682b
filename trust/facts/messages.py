"""Facts about the box's messages: their fields, and the words of its profiles.

The fields are those of this program's `wire/messages.py`: they are facts about a machine that has the same file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec.inspect

import wire.audit_events
import wire.messages
from trust.evidence import Evidence
from trust.fact import Fact, fact, names
from trust.machine import ExaminedBox
from wire.messages import BoxReport, InstrumentReport, LogLine

INSTALLED: Final = "/usr/lib/rap/python"


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the fields of reports, the words that they may contain, and the events of the box's audit records."""
    if messages := known_messages(machine):
        yield fact("messages.fields", report_fields(), messages)
        own = [kind for kind in get_args(BoxReport) if kind is not LogLine]
        yield fact("messages.box-fields", [line for kind in own for line in _fields(kind)], messages)
        if settings := machine.file("/etc/rap/box.toml"):
            yield fact("messages.log-lines", list(_log_lines(settings.text)), messages, settings)
    events = _same(machine, "wire/audit_events.py", Path(wire.audit_events.__file__))
    if events:
        words = sorted(str(event) for event in wire.audit_events.AuditEvent)
        yield fact("messages.audit-events", words, events)
    yield from _profiles(machine)


def known_messages(machine: ExaminedBox) -> Evidence | None:
    """Return the definition of messages on the machine, if it equals this program's."""
    return _same(machine, "wire/messages.py", Path(wire.messages.__file__))


def report_fields() -> list[str]:
    """Return "message: field: content" for each field of each report of an instrument."""
    return [line for kind in get_args(InstrumentReport) for line in _fields(kind)]


def _log_lines(settings: str) -> Iterator[str]:
    """Yield the logs whose lines the box sends as text, and the content of such a line."""
    box = tomllib.loads(settings)
    fields = "; ".join(line.removeprefix("line: ") for line in _fields(LogLine))
    if "audit" in box:
        yield f"system (/var/log/audit): {fields}"
    if "sessions" in box:
        yield f"sessions (the audit file of remote sessions): {fields}"


def _same(machine: ExaminedBox, path: str, own: Path) -> Evidence | None:
    installed = machine.file(f"{INSTALLED}/{path}")
    return installed if installed and installed.text == own.read_text("utf-8") else None


def _fields(kind: type[msgspec.Struct]) -> Iterator[str]:
    described = msgspec.inspect.type_info(kind)
    assert isinstance(described, msgspec.inspect.StructType)
    yield from (f"{described.tag}: {field.name}: {_form(field.type)}" for field in described.fields)


def _form(kind: msgspec.inspect.Type) -> str:
    """Return the possible content of a field, in words."""
    match kind:
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"whole number {low} to {high}"
        case msgspec.inspect.BoolType():
            return "yes or no"
        case msgspec.inspect.LiteralType(values=values):
            return f"one of {', '.join(map(str, values))}"
        case msgspec.inspect.StrType(pattern=pattern):
            return f"word of the form {pattern}" if pattern else "text"
        case msgspec.inspect.BytesType(max_length=length):
            return f"at most {length} bytes"
        case msgspec.inspect.DictType(key_type=key, value_type=value, max_length=length):
            return f"at most {length} of ({_form(key)}): {_form(value)}"
        case msgspec.inspect.VarTupleType(item_type=item, max_length=length):
            return f"at most {length} of ({_form(item)})"
        case msgspec.inspect.TupleType(item_types=items):
            return ", ".join(map(_form, items))
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(map(_form, types))
        case msgspec.inspect.NoneType():
            return "nothing"
        case msgspec.inspect.Metadata(type=inner):
            return _form(inner)
    return type(kind).__name__


def _profiles(machine: ExaminedBox) -> Iterator[Fact]:
    listed = machine.paths(f"{INSTALLED}/profiles/*.toml")
    files = [file for path in names(listed) if (file := machine.file(path))]
    if not files:
        return
    tables: list[dict[str, Any]] = [tomllib.loads(file.text) for file in files]
    words, verbs = list[str](), list[str]()
    for table in tables:
        counts = [
            f"{len(table.get(key, {}))} {key}" for key in ("channels", "assays", "components", "errors")
        ]
        words.append(f"{table['model']} version {table['version']}: {', '.join(counts)}")
        verbs.append(f"{table['model']}: {', '.join(table.get('verbs', [])) or 'none'}")
    yield fact("messages.profiles", words, listed, *files)
    yield fact("messages.verbs", verbs, listed, *files)
