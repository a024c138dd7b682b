"""From TOML tables to Structs, key by key, finding every mistake and saying what would be right.

A Struct describes a table: its fields are the keys, their types the forms (`sim.lab.values`), a Literal is a
choice, a Struct a table in the table, a tuple of Structs an array of tables. A field without a default must be given.
Mistakes are collected, so that one run names them all; what could be read is only used when there are none.
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from sim.lab.values import Form

CHOICES_SHOWN_MAX: Final = 12
"""Of more choices than this, a message shows the nearest alone."""

Key = tuple[str | int, ...]
"""Where a value is: `("instrument", 2, "port")`; arrays count from 1."""

S = TypeVar("S", bound=msgspec.Struct)


class LabFileError(Exception):
    """A lab file that is wrong. The message has a line for each mistake: file, line, key, what would be right."""


@dataclass(slots=True)
class Mistakes:
    """What is wrong with one file, in the order found."""

    path: Path
    text: str
    lines: list[str] = field(default_factory=list)

    def add(self, key: Key, problem: str) -> None:
        """Note that the value at `key` is wrong."""
        self.lines.append(f"{self.path}:{line_of(self.text, key)}: {key_text(key)}: {problem}")

    def raise_if_any(self) -> None:
        """Raise LabFileError with all of them."""
        if self.lines:
            raise LabFileError("\n".join(self.lines))


def read_table(
    kind: type[S], given: object, key: Key, mistakes: Mistakes, *, beside: tuple[str, ...] = ()
) -> S | None:
    """The table `given` as a `kind`; None if there were mistakes in it.

    `beside` are keys that somebody else reads from the same table, to suggest when one is misspelt.
    """
    known = {f.name: f for f in fields(kind)}
    if not isinstance(given, dict):
        mistakes.add(key, f"must be one table, with {', '.join(known)}")
        return None
    before = len(mistakes.lines)
    for name in given:
        if name not in known:
            mistakes.add((*key, name), f"there is no such key; {nearest(name, [*beside, *known])}")
    values = {}
    for name, info in known.items():
        if name in given:
            values[name] = read_value(info.type, given[name], (*key, name), mistakes)
        elif info.required:
            mistakes.add((*key, name), f"is missing; {rule_of(info)}")
    return kind(**values) if len(mistakes.lines) == before else None


def read_value(kind: Any, given: object, key: Key, mistakes: Mistakes) -> Any:
    """The value `given` in the form that the type `kind` says; None if that is a mistake."""
    kind = _without_none(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return read_table(kind, given, key, mistakes)
    if get_origin(kind) is tuple:
        return _read_array(get_args(kind)[0], given, key, mistakes)
    try:
        return _read_plain(kind, given)
    except ValueError as error:
        mistakes.add(key, f"{shown(given)}: {error}")
        return None


def _read_array(kind: Any, given: object, key: Key, mistakes: Mistakes) -> tuple[Any, ...]:
    if not isinstance(given, list):
        mistakes.add(key, f"must be an array of tables; begin each with [[{key_text(key)}]]")
        return ()
    return tuple(read_value(kind, item, (*key, n), mistakes) for n, item in enumerate(given, 1))


def _read_plain(kind: Any, given: object) -> object:
    if get_origin(kind) is Literal:
        if given not in get_args(kind):
            raise ValueError(nearest(str(given), list(get_args(kind))))
        return given
    if kind is bool:
        if not isinstance(given, bool):
            raise ValueError("give true or false")
        return given
    return _form(kind).read(given)


def _form(kind: Any) -> Form:
    form: Form = get_args(kind)[1]
    return form


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (member for member in get_args(kind) if member is not types.NoneType)
    return kind


def rule_of(info: FieldInfo) -> str:
    """What a key may be, in words, for messages and for the reference page."""
    kind = _without_none(info.type)
    if get_origin(kind) is Literal:
        return _one_of(list(get_args(kind)))
    if kind is bool:
        return "true or false"
    if get_origin(kind) is tuple:
        return "an array of tables"
    return "a table" if isinstance(kind, type) else _form(kind).rule


def nearest(given: str, known: list[str]) -> str:
    """What to suggest for `given`: the one that is close to it, and all that is known unless that is too much."""
    close = get_close_matches(given, known, n=1)
    every = f"must be {_one_of(known)}"
    if not close:
        return every
    return f"did you mean {close[0]}?" + (f" It {every}" if len(known) <= CHOICES_SHOWN_MAX else "")


def _one_of(known: list[str]) -> str:
    return f"one of {', '.join(known)}" if len(known) != 1 else known[0]


def shown(given: object) -> str:
    """A value as the lab file might show it, short."""
    text = (
        str(given).lower()
        if isinstance(given, bool)
        else f'"{given}"'
        if isinstance(given, str)
        else str(given)
    )
    return text if len(text) <= 60 else text[:57] + "…"


def key_text(key: Key) -> str:
    """`instrument[2].port`, for the port of the file's second [[instrument]]."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


def line_of(text: str, key: Key) -> int:
    """The line, from 1, on which the value at `key` is given, or else that of its table; 1 if that is nowhere.

    The standard library's TOML parser does not tell; looking for headers and keys finds it in files written
    as people write them.
    """
    table, number = str(key[0]), key[1] if len(key) > 1 and isinstance(key[1], int) else 1
    name = next((part for part in key[1:] if isinstance(part, str)), None)
    header = re.compile(rf"\s*\[+\s*{re.escape(table)}\s*\]+")
    found, seen = 1, 0
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            seen += bool(header.match(line))
            inside = bool(header.match(line)) and seen == number
            found = line_number if inside else found
        elif seen == number and inside and name and re.match(rf'\s*"?{re.escape(name)}"?\s*[=.]', line):
            return line_number
    return found
