"""Parameters of a URL or form: decoded into a Struct, with an error message that names the invalid parameter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Final, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import fields

from settings.toml import nearest

S = TypeVar("S", bound=Struct)
Moment: TypeAlias = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""A time in milliseconds since 1970."""
PARAMETERS_MAX: Final = 32
PARAMETER_CHARACTERS_MAX: Final = 2000


class ParameterError(ValueError):
    """A parameter or the body is invalid; the text says how to correct it."""


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """Parse `name=value&…`. Raises: ParameterError."""
    try:
        return parse_qsl(
            text, keep_blank_values=True, max_num_fields=PARAMETERS_MAX, encoding="utf-8", errors="strict"
        )
    except UnicodeDecodeError as error:
        raise ParameterError("the parameters are not valid UTF-8") from error
    except ValueError as error:
        raise ParameterError(f"too many parameters; at most {PARAMETERS_MAX} are allowed") from error


def read_parameters(kind: type[S], pairs: Iterable[tuple[str, str]]) -> S:
    """Return the parameters as a `kind`; an empty parameter has its default. Raises: ParameterError."""
    values: dict[str, str] = {}
    for name, value in pairs:
        _require_known(kind, name)
        if name in values:
            raise ParameterError(f"the parameter {name!r} is given twice; give it once")
        if "\0" in value or len(value) > PARAMETER_CHARACTERS_MAX:
            raise ParameterError(
                f"{name}: must be text without NUL, of at most {PARAMETER_CHARACTERS_MAX} characters"
            )
        values[name] = value
    try:
        return msgspec.convert({name: value for name, value in values.items() if value}, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ParameterError(_in_words(kind, values, str(error))) from error


def read_body(kind: type[S], values: Mapping[str, object]) -> S:
    """Return the members of a JSON object as a `kind`. Raises: ParameterError."""
    for name in values:
        _require_known(kind, name)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ParameterError(_in_words(kind, values, str(error))) from error


def _require_known(kind: type[Struct], name: str) -> None:
    known = [field.name for field in fields(kind)]
    if name not in known:
        correction = nearest(name[:60], known) if known else "this request takes no parameters"
        raise ParameterError(f"unknown parameter {name[:60]!r}; {correction}")


def _in_words(kind: type[Struct], values: Mapping[str, object], message: str) -> str:
    """Return a validation message of msgspec (`Expected … - at `$.name``) with the parameter and its correction."""
    text, _, path = message.partition(" - at `$.")
    name = path.rstrip("`")
    if not name:
        return f"{text[:1].lower()}{text[1:]}"
    given = str(values.get(name, ""))
    words = [word for word in _words(get_type_hints(kind).get(name)) if word]
    correction = (
        nearest(given, words)
        if words
        else text[:1].lower() + text[1:].replace("`int`", "a whole number").replace("`str`", "a text")
    )
    return f"the parameter {name} is {given[:60]!r}: {correction}"


def _words(hint: object) -> Iterator[str]:
    """Yield the permitted words of a type such as `Literal["a", "b"] | None`."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _words(part)
