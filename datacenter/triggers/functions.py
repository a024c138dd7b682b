"""The functions and words of conditions.

`FUNCTIONS` lists the functions that create a term, which the term's class describes.

To add a function, write its term in `terms/` and add it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, Final

from datacenter.triggers.syntax import (
    Call,
    ConditionError,
    Name,
    Node,
    Number,
    Text,
    Unary,
    format_duration_ms,
)
from datacenter.triggers.terms.base import PERCENTILES, Base
from datacenter.triggers.terms.cusum import CusumHigh, CusumLow
from datacenter.triggers.terms.ewma import WEIGHT_MAX, Ewma
from datacenter.triggers.terms.inputs import (
    CalibrationOffset,
    CalibrationSlope,
    ControlDeviation,
    Input,
    Occurrence,
    Reading,
    RemainingTests,
)
from datacenter.triggers.terms.term import Term
from datacenter.triggers.terms.westgard import RULES, Rule
from datacenter.triggers.terms.window import Change, Greatest, Jitter, Least, Mean, OccurrenceCount
from settings.profile import Profile
from settings.toml import nearest

LEVELS: Final = (1, 2, 3)


@dataclass(frozen=True)
class Function:
    """A function that makes a term from an input. `arguments` are the kinds of the arguments after the first."""

    make: Callable[..., Term]
    arguments: tuple[str, ...]
    takes: type[Input] | None = None
    """The kind of input whose word is the first argument; None for any input."""


_WINDOW: Final = ("duration",)
FUNCTIONS: Final[dict[str, Function]] = {
    "ewma": Function(Ewma, ("count",)),
    "mean": Function(Mean, _WINDOW),
    "jitter": Function(Jitter, _WINDOW),
    "min": Function(Least, _WINDOW),
    "max": Function(Greatest, _WINDOW),
    "change": Function(Change, _WINDOW),
    "cusum-high": Function(CusumHigh, ("number", "number")),
    "cusum-low": Function(CusumLow, ("number", "number")),
    "base": Function(Base, ("percentile",), Reading),
    "count": Function(OccurrenceCount, _WINDOW, Occurrence),
    "westgard": Function(Rule, ("rule",), ControlDeviation),
}
_INPUTS: Final[dict[str, type[Input]]] = {
    "qc": ControlDeviation,
    "tests-left": RemainingTests,
    "slope": CalibrationSlope,
    "offset": CalibrationOffset,
}
"""The calls that denote inputs: the argument is an assay; qc() optionally has a level too."""
_CONSTANTS: Final = {"normal-low": 0, "normal-high": 1}
"""The limits of a channel's normal range."""


def word_input(name: Name, profile: Profile) -> Reading:
    """Return the input of a word: the reading of a channel. Raises: ConditionError."""
    return Reading(_word(name, Reading, profile))


def constant_of(call: Call, profile: Profile) -> int | None:
    """Return the value of normal-low() or normal-high(); None for other calls. Raises: ConditionError."""
    if call.name not in _CONSTANTS:
        return None
    _require_arguments(call, ("channel",))
    word = _word(call.arguments[0], Reading, profile)
    normal = profile.channels[word].normal
    if normal is None:
        raise ConditionError(call.at, f"{word} has no normal range in the profile; give a number")
    return normal[_CONSTANTS[call.name]]


def call_input(call: Call, profile: Profile) -> Input | None:
    """Return the input that a call denotes; None for other calls. Raises: ConditionError."""
    if (kind := _INPUTS.get(call.name)) is None:
        return None
    if kind is not ControlDeviation or len(call.arguments) == 1:
        _require_arguments(call, ("assay",))
        return kind(_word(call.arguments[0], kind, profile))
    _require_arguments(call, ("assay", "level"))
    level = _number(call.arguments[1])
    if level not in LEVELS:
        raise ConditionError(call.arguments[1].at, "the level of a control is 1, 2 or 3")
    return ControlDeviation(_word(call.arguments[0], kind, profile), int(level))


def call_term(call: Call, profile: Profile) -> Term:
    """Return the term of a call of one of FUNCTIONS. Raises: ConditionError."""
    if (function := FUNCTIONS.get(call.name)) is None:
        known = [*FUNCTIONS, *_INPUTS, *_CONSTANTS]
        raise ConditionError(call.at, f"there is no function {call.name}; {nearest(call.name, known)}")
    first = function.takes.__name__.lower() if function.takes else "input"
    _require_arguments(call, (first, *function.arguments))
    source = _input(call.arguments[0], function, profile)
    values = [
        _ARGUMENTS[kind](node) for kind, node in zip(function.arguments, call.arguments[1:], strict=True)
    ]
    return function.make(source, *values)


def _input(node: Node, function: Function, profile: Profile) -> Input:
    if function.takes:
        return function.takes(_word(node, function.takes, profile))
    if isinstance(node, Call) and (source := call_input(node, profile)) is not None:
        return source
    if isinstance(node, Name):
        return word_input(node, profile)
    raise ConditionError(
        node.at, f"must be a channel, or one of {', '.join(f'{name}()' for name in _INPUTS)}"
    )


def _word(node: Node, kind: type[Input], profile: Profile) -> str:
    known = kind.words(profile)
    if isinstance(node, Name) and node.word in known:
        return node.word
    word = node.word if isinstance(node, Name) else "this"
    raise ConditionError(node.at, f"{word} is not in the profile of {profile.model}; {nearest(word, known)}")


def _require_arguments(call: Call, kinds: tuple[str, ...]) -> None:
    if len(call.arguments) != len(kinds):
        raise ConditionError(call.at, f"the arguments must be {call.name}({', '.join(kinds)})")


def _number(node: Node) -> Fraction:
    if isinstance(node, Unary) and node.sign == "-":
        return -_number(node.operand)
    if isinstance(node, Number) and not node.is_duration:
        return node.value
    raise ConditionError(node.at, "must be a number")


def _count(node: Node) -> int:
    number = _number(node)
    if number.denominator != 1 or not 1 <= number <= WEIGHT_MAX:
        raise ConditionError(node.at, f"must be a whole number from 1 to {WEIGHT_MAX}")
    return int(number)


def _percentile(node: Node) -> int:
    number = _number(node)
    if number.denominator != 1 or int(number) not in PERCENTILES:
        raise ConditionError(node.at, "a percentile must be a whole number from 1 to 99")
    return int(number)


def _duration(node: Node) -> int:
    if isinstance(node, Number) and node.is_duration and node.value >= 4:
        return int(node.value)
    raise ConditionError(node.at, "must be a duration, for example 30min, 6h or 7d")


def _rule(node: Node) -> str:
    if isinstance(node, Text) and node.value in RULES:
        return node.value
    raise ConditionError(node.at, 'must be one of "' + '", "'.join(RULES) + '"')


_ARGUMENTS: Final[dict[str, Callable[[Node], Any]]] = {
    "number": _number,
    "count": _count,
    "percentile": _percentile,
    "duration": _duration,
    "rule": _rule,
}


def text_of(term: Term) -> str:
    """Return a term as it is written in conditions."""
    text = _text_of_input(term.input)
    for name, function in FUNCTIONS.items():
        if type(term) is function.make:
            _, *values = (getattr(term, field.name) for field in fields(term))
            written = [_WRITTEN[kind](value) for kind, value in zip(function.arguments, values, strict=True)]
            return f"{name}({', '.join([text, *written])})"
    return text


def _text_of_input(source: Input) -> str:
    for name, kind in _INPUTS.items():
        if type(source) is kind:
            level = f", {source.level}" if isinstance(source, ControlDeviation) and source.level else ""
            return f"{name}({source.word}{level})"
    return source.word or "state"


def _written_number(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"


_WRITTEN: Final[dict[str, Callable[[Any], str]]] = {
    "number": _written_number,
    "count": str,
    "percentile": str,
    "duration": format_duration_ms,
    "rule": lambda rule: f'"{rule}"',
}
