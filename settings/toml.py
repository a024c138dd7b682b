# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""TOML that people write, such as configurations and policies: what is wrong in it, and what would be right.

msgspec judges the form, one mistake at a time, and says "problem - at `$.table[0].key`". Where it names what is
wrong, this says also what would be right.
"""

from __future__ import annotations

import re
from typing import Any, Final, get_args

import msgspec
from msgspec import Struct

_EXPECTED: Final = re.compile(r"Expected `([^`]+)`(?:, got `(\w+)`)?(.*)")
_IN_WORDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "a string",
}


def explained(root: type[Struct], error: msgspec.ValidationError) -> tuple[str, str]:
    """The key in the file ("" for the whole), and what would be right there; the file should have been a `root`."""
    problem, _, path = str(error).partition(" - at ")
    keys = [key for key in path.rpartition("$")[2].strip("`").split(".") if key]
    if problem.startswith("Object contains unknown field"):
        known = ", ".join(sorted(_table_at(root, keys).__struct_fields__))
        keys.append(problem.split("`")[1])
        problem = f"there is no such key; there are {known}"
    elif problem.startswith("Object missing required field"):
        keys.append(problem.split("`")[1])
        problem = "is required, and is not there"
    elif problem.startswith("Invalid enum value"):
        words = _words(_type_of(_table_at(root, keys[:-1]), keys[-1]))
        problem = f"must be one of {', '.join(words)}, not {problem.split()[-1]}"
    elif expected := _EXPECTED.fullmatch(problem):
        right, given, bound = expected.groups()
        problem = f"must be {_in_words(right)}{bound}" + (f", not {_in_words(given)}" if given else "")
    return ".".join(keys), problem


def _in_words(kinds: str) -> str:
    """What msgspec calls "int | null", say."""
    return " or ".join(_IN_WORDS.get(kind, kind) for kind in kinds.split(" | ") if kind != "null")


def _table_at(table: type[Struct], keys: list[str]) -> type[Struct]:
    """The type of the table that these keys lead to."""
    for key in keys:
        [table, *_] = _tables(_type_of(table, key))
    return table


def _tables(kind: Any) -> list[type[Struct]]:
    """The tables in a type: Struct, Struct | None, list[Struct], or one with Meta around it."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return [kind]
    return [table for part in get_args(kind) for table in _tables(part)]


def _words(kind: Any) -> list[str]:
    """The words that a type allows: Literal, or one within others."""
    return [kind] if isinstance(kind, str) else [word for part in get_args(kind) for word in _words(part)]


def _type_of(table: type[Struct], key: str) -> Any:
    name = key.partition("[")[0]
    return next(field.type for field in msgspec.structs.fields(table) if field.name == name)
