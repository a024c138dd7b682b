"""Parses conditions and numbers into a tree of nodes, each with its column in the text.

    condition   ::=  condition "or" condition | condition "and" condition | "not" condition | "(" condition ")"
                  |  number ("<" | "<=" | ">" | ">=") number | word "is" ["not"] word | call
    number      ::=  number ("+" | "-") number | number ("*" | "/") number | "-" number | "(" number ")"
                  |  12 | 0.5 | 6h | word | call
    call        ::=  word "(" argument { "," argument } ")"

A word may contain hyphens; a minus between words therefore needs spaces. Durations have the unit s, min, h or d, and
stand for milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

MS: Final = {"s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Units of durations, in milliseconds."""

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)(?P<unit>(?:min|[shd])(?![\w-]))?(?![\w-]*[A-Za-z_])"
    r"|(?P<word>[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*)"
    r"|(?P<text>\"[^\"]*\")"
    r"|(?P<sign><=|>=|[-+*/()<>,]))"
)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(min|[shd])")
_BINDING: Final = {
    "or": 1,
    "and": 2,
    "<": 4,
    "<=": 4,
    ">": 4,
    ">=": 4,
    "is": 4,
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
}
_NOT: Final = 3
_MINUS: Final = 7
_DEPTH_MAX: Final = 50


class ConditionError(ValueError):
    """The condition is not valid. `at` is the position in the text, from 0; the message says how to correct it."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True, slots=True)
class Number:
    """A literal number; a duration is in milliseconds."""

    value: Fraction
    at: int
    is_duration: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A word of the profile, or a keyword."""

    word: str
    at: int


@dataclass(frozen=True, slots=True)
class Text:
    """A quoted text."""

    value: str
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function with its arguments."""

    name: str
    arguments: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`not` or `-`."""

    sign: str
    operand: Node
    at: int


@dataclass(frozen=True, slots=True)
class Binary:
    """An operation or a comparison."""

    sign: str
    left: Node
    right: Node
    at: int


Node: TypeAlias = Number | Name | Text | Call | Unary | Binary


class _Token(NamedTuple):
    kind: str  # number, word, text, sign or end
    text: str
    at: int
    unit: str = ""


def parse_condition(text: str) -> Node:
    """Parse a condition. Raises: ConditionError."""
    parser = _Parser(text)
    node = parser.expression(0)
    parser.expect_end()
    return node


def parse_duration_ms(text: str) -> int:
    """Parse a duration such as "30min" to milliseconds. Raises: ConditionError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConditionError(0, 'must be a number with the unit s, min, h or d, for example "30min"')
    return round(Fraction(match[1]) * MS[match[2]])


def format_duration_ms(duration_ms: int) -> str:
    """Return the text that `parse_duration_ms` parses, in the largest unit that divides the duration."""
    unit = max((name for name in MS if duration_ms % MS[name] == 0), key=lambda name: MS[name], default="s")
    return f"{duration_ms / MS[unit]:.15g}{unit}"


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            start = len(text) - len(text[at:].lstrip())
            raise ConditionError(
                start,
                f"{text[start : start + 12]!r} is not a number, a word or one of < <= > >= + - * / ( ) ,",
            )
        kind = str(match.lastgroup if match.lastgroup != "unit" else "number")
        yield _Token(kind, match[kind], match.start(kind), match["unit"] or "")
        at = match.end()
    yield _Token("end", "", len(text))


class _Parser:
    """An operator-precedence parser."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = self._depth = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _accept(self, text: str) -> bool:
        if self._token.kind in ("sign", "word") and self._token.text == text:
            self._next += 1
            return True
        return False

    def _expect(self, text: str, after: str) -> None:
        if not self._accept(text):
            raise ConditionError(self._token.at, f'"{text}" is missing after {after}')

    def expect_end(self) -> None:
        """Raise ConditionError unless everything was read."""
        if (token := self._token).kind != "end":
            raise ConditionError(
                token.at, f'"{token.text}" is unexpected; join conditions with "and" or "or"'
            )

    def expression(self, binding_min: int) -> Node:
        """Parse operations that bind more strongly than `binding_min`."""
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise ConditionError(self._token.at, f"is nested more than {_DEPTH_MAX} times; simplify it")
        left = self._operand()
        while (binding := _BINDING.get(self._token.text, 0)) > binding_min and self._token.kind != "text":
            sign = self._take()
            if sign.text == "is" and self._accept("not"):
                left = Unary("not", Binary("is", left, self.expression(binding), sign.at), sign.at)
            else:
                left = Binary(sign.text, left, self.expression(binding), sign.at)
        self._depth -= 1
        return left

    def _operand(self) -> Node:
        token = self._take()
        if token.kind == "number":
            scale = MS[token.unit] if token.unit else 1
            return Number(Fraction(token.text) * scale, token.at, bool(token.unit))
        if token.kind == "text":
            return Text(token.text[1:-1], token.at)
        if token.text == "not":
            return Unary("not", self.expression(_NOT), token.at)
        if token.text == "-":
            return Unary("-", self.expression(_MINUS), token.at)
        if token.text == "(":
            node = self.expression(0)
            self._expect(")", "the parentheses' content")
            return node
        if token.kind == "word" and token.text not in _BINDING:
            return self._call(token) if self._accept("(") else Name(token.text, token.at)
        before = f' before "{token.text}"' if token.text else " at the end"
        raise ConditionError(token.at, f"a number, a word or a condition is missing{before}")

    def _call(self, name: _Token) -> Call:
        arguments = [self.expression(0)]
        while self._accept(","):
            arguments.append(self.expression(0))
        self._expect(")", f"the arguments of {name.text}")
        return Call(name.text, tuple(arguments), name.at)
