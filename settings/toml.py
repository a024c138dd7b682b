# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""TOML settings files: read into msgspec Structs, with all problems reported at once, and written.

A Struct describes a table: its fields are the keys, their types the allowed values. A type is one that msgspec
supports, or has an annotation `Form` for values with a special syntax ("128kbit"). A field without a default is
required. All problems are collected, each with file, line, key and correction.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

import msgspec
import tomli_w
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, fields

from settings.form import Form
from settings.partial import PartialTable
from settings.problems import Key, Problem, Problems, SettingsError, key_text

CHOICES_SHOWN_MAX: Final = 12
"""Maximum number of choices that a message lists; with more choices, it suggests only the nearest."""
SHOWN_CHARACTERS_MAX: Final = 60

_UNREAD: Final = object()
"""In place of a value that could not be read."""

S = TypeVar("S", bound=Struct)

_EXPECTED: Final = re.compile(r"Expected `([^`]+)`(?:, got `(\w+)`)?(.*)")
_IN_WORDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table",
    "str": "a string",
}


def read_text(file: Path) -> str:
    """Read a text file. Raises: SettingsError."""
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise SettingsError(file, Problem("", f"cannot be read: {error.strerror}")) from error
    except UnicodeDecodeError as error:
        raise SettingsError(file, Problem("", f"is not a text file in UTF-8: {error.reason}")) from error


def parse(text: str, file: Path) -> dict[str, Any]:
    """Parse TOML text into its top-level table; `file` is for messages. Raises: SettingsError."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(file, Problem("", f"is not TOML: {error}")) from None


def load(file: Path, kind: type[S], check: Callable[[S, Problems], None] | None = None) -> S:
    """Read a file as a `kind`; relative paths are relative to its directory. Raises: SettingsError with all problems.

    `check` adds further problems. It gets what could be read even if some values have problems
    (`settings.partial`), and has a `Problems.part` for each part that does not depend on the others.
    """
    return loads(read_text(file), file, kind, check)


def loads(text: str, file: Path, kind: type[S], check: Callable[[S, Problems], None] | None = None) -> S:
    """Like `load`, but from text; `file` is for messages and relative paths.

    Raises: SettingsError with all problems.
    """
    problems = Problems(file, text)
    value = read_partial(kind, parse(text, file), (), problems)
    if check is not None:
        with problems.part():
            check(value, problems)
    problems.raise_if_any()
    assert isinstance(value, kind)
    return value


def read_table(
    kind: type[S], given: object, key: Key, problems: Problems, *, other_keys: tuple[str, ...] = ()
) -> S | None:
    """Convert the table `given` to a `kind`; None if it has problems.

    `other_keys` lists keys of the same table that the caller reads itself, as suggestions for misspelt keys.
    """
    value: object = read_partial(kind, given, key, problems, other_keys=other_keys)
    return value if isinstance(value, kind) else None


def read_partial(
    kind: type[S], given: object, key: Key, problems: Problems, *, other_keys: tuple[str, ...] = ()
) -> S:
    """Like `read_table`, for further checks: a table with problems contains the values that could be read.

    It is a `PartialTable` then, so that reading another value raises UnreadError: see `Problems.part`.
    """
    known = {f.name: f for f in fields(kind)}
    if not isinstance(given, dict):
        problems.add(key, f"must be one table, with {', '.join(known)}")
        return cast("S", PartialTable(kind, {}))
    before = len(problems.found)
    for name in given:
        if name not in known:
            problems.add((*key, name), f"unknown key; {nearest(name, [*other_keys, *known])}")
    values: dict[str, Any] = {}
    for name, info in known.items():
        if name in given:
            value = _read_value(info.type, given[name], (*key, name), problems)
            if value is not _UNREAD:
                values[name] = value
        elif info.required:
            problems.add((*key, name), f"is missing; expected {describe_field(info)}")
        else:
            values[name] = _default(info)
    if len(problems.found) == before:
        try:
            return kind(**values)
        except ValueError as error:  # from the Struct's own __post_init__
            problems.add(key, str(error))
            values = {}
    elif key and hasattr(kind, "__post_init__"):
        values = {}  # checks may rely on what `__post_init__` ensures
    return cast("S", PartialTable(kind, values))


def read_value(kind: Any, given: object, key: Key, problems: Problems) -> Any:
    """Convert the value `given` to the type `kind`; None if it has problems."""
    before = len(problems.found)
    value = _read_value(kind, given, key, problems)
    return value if len(problems.found) == before else None


def _read_value(kind: Any, given: object, key: Key, problems: Problems) -> Any:
    """Like `read_value`, but tables may be partial; return _UNREAD if nothing can be used."""
    kind = _without_none(kind)
    plain, metadata = _plain(kind)
    form = next((m for m in metadata if isinstance(m, Form)), None)
    try:
        if form is not None:
            return form.read(given)
        if isinstance(plain, type) and issubclass(plain, Struct):
            return read_partial(plain, given, key, problems)
        if get_origin(plain) in (list, tuple):
            return _read_array(plain, metadata, given, key, problems)
        if get_origin(plain) is dict:
            return _read_mapping(plain, given, key, problems)
        if get_origin(plain) is Literal and given not in get_args(plain):
            raise ValueError(nearest(str(given), [str(word) for word in get_args(plain)]))
        return _convert(kind, given, problems.file)
    except ValueError as error:
        problems.add(key, str(error) if _is_secret(metadata) else f"{format_value(given)}: {error}")
        return _UNREAD


def _read_array(kind: Any, metadata: tuple[Any, ...], given: object, key: Key, problems: Problems) -> Any:
    item = get_args(kind)[0]
    tables = isinstance(_plain(item)[0], type) and issubclass(_plain(item)[0], Struct)
    if not isinstance(given, list):
        begin = f"an array of tables; begin each with [[{key_text(key)}]]" if tables else "a list"
        problems.add(key, f"must be {begin}")
        return _UNREAD
    for meta in metadata:
        if isinstance(meta, Meta):
            _convert(
                Annotated[list[Any], Meta(min_length=meta.min_length, max_length=meta.max_length)],
                given,
                Path(),
            )
    values = [_read_value(item, value, (*key, n), problems) for n, value in enumerate(given)]
    if _UNREAD in values:
        return _UNREAD
    return values if get_origin(kind) is list else tuple(values)


def _read_mapping(kind: Any, given: object, key: Key, problems: Problems) -> Any:
    if not isinstance(given, dict):
        problems.add(key, "must be a table")
        return _UNREAD
    of_keys, of_values = get_args(kind)
    read = {}
    for name, value in given.items():
        number = int(name) if _plain(of_keys)[0] is int and name.isdecimal() else name
        converted = _read_value(of_keys, number, (*key, name), problems)
        read[converted] = _read_value(of_values, value, (*key, name), problems)
    return _UNREAD if _UNREAD in read or _UNREAD in read.values() else read


def _convert(kind: Any, given: object, file: Path) -> Any:
    """Convert a value with msgspec. Raises: ValueError with the correction."""
    try:
        if kind is Path and isinstance(given, str):
            return file.parent / given
        return given if kind is object else msgspec.convert(given, str if kind is Path else kind)
    except msgspec.ValidationError as error:
        raise ValueError(explain_error(kind, error)) from None


def explain_error(kind: Any, error: msgspec.ValidationError) -> str:
    """Explain a msgspec validation error for a value of type `kind`, with the correction."""
    problem = str(error).partition(" - at ")[0]
    if "matching regex" in problem and (example := _example(kind)):
        return f"write it like {example}"
    if expected := _EXPECTED.fullmatch(problem):
        allowed, given, bound = expected.groups()
        words = " or ".join(_IN_WORDS.get(k, k) for k in allowed.split(" | ") if k != "null")
        return f"must be {words}{bound}" + (f", not {_IN_WORDS.get(given, given)}" if given else "")
    return problem


def _example(kind: Any) -> str:
    """Return the first example in a type's annotations."""
    plain, metadata = _plain(kind)
    for meta in metadata:
        if isinstance(meta, Meta) and meta.examples:
            return str(meta.examples[0])
    return next((found for part in get_args(plain) if (found := _example(part))), "")


def _plain(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Split a type into the bare type and its annotations."""
    if get_origin(kind) is Annotated:
        plain, *metadata = get_args(kind)
        return plain, tuple(metadata)
    return kind, ()


def _is_secret(metadata: tuple[Any, ...]) -> bool:
    """Return whether messages must not repeat a value with these annotations."""
    return any(isinstance(meta, Meta) and (meta.extra or {}).get("secret") for meta in metadata)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not types.NoneType]
        return members[0] if len(members) == 1 else kind
    return kind


def describe_field(info: FieldInfo) -> str:
    """Describe the allowed values of a field in words, for messages and reference pages."""
    plain, metadata = _plain(_without_none(info.type))
    for meta in metadata:
        if isinstance(meta, Form):
            return meta.rule
    if get_origin(plain) is Literal:
        return _one_of([str(word) for word in get_args(plain)])
    if plain is bool:
        return "true or false"
    if get_origin(plain) in (list, tuple):
        tables = isinstance(get_args(plain)[0], type) and issubclass(get_args(plain)[0], Struct)
        return "an array of tables" if tables else "a list"
    if (isinstance(plain, type) and (issubclass(plain, Struct) or plain is dict)) or get_origin(
        plain
    ) is dict:
        return "a table"
    example = _example(info.type)
    return f"a value like {example}" if example else _IN_WORDS.get(getattr(plain, "__name__", ""), "a value")


def nearest(given: str, known: list[str]) -> str:
    """Suggest the known word nearest to `given`, and list all of them if there are few."""
    close = get_close_matches(given, known, n=1)
    every = f"must be {_one_of(known)}"
    if not close:
        return every
    return f"did you mean {close[0]}?" + (f" It {every}" if len(known) <= CHOICES_SHOWN_MAX else "")


def _one_of(known: list[str]) -> str:
    return f"one of {', '.join(known)}" if len(known) != 1 else known[0]


def format_value(given: object) -> str:
    """Format a value for a message: as in the file, abbreviated."""
    text = (
        str(given).lower()
        if isinstance(given, bool)
        else f'"{given}"'
        if isinstance(given, str)
        else str(given)
    )
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 3] + "…"


def dumps(table: Struct | Mapping[str, Any], *, comment: str = "") -> str:
    """Format a table as TOML; of a Struct, only keys that differ from their defaults. `comment` is put before it."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + tomli_w.dumps(as_table(table) if isinstance(table, Struct) else table)


def as_table(value: Struct) -> dict[str, Any]:
    """Convert a Struct to a TOML table: the inverse of `read_table`, without keys that have their default value."""
    table = {}
    for info in fields(value):
        field_value = getattr(value, info.name)
        if info.required or field_value != _default(info):
            table[info.name] = _written(info.type, field_value)
    return table


def _default(info: FieldInfo) -> Any:
    return info.default_factory() if info.default is msgspec.NODEFAULT else info.default


def _written(kind: Any, value: Any) -> Any:
    plain, metadata = _plain(_without_none(kind))
    for meta in metadata:
        if isinstance(meta, Form):
            return meta.write(value)
    if isinstance(value, Struct):
        return as_table(value)
    if isinstance(value, (list, tuple)):
        return [_written(get_args(plain)[0], item) for item in value]
    if isinstance(value, dict):
        return {str(name): _written(get_args(plain)[1], item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value
