"""Conditions are parsed by operator precedence, and errors name the column and the correction."""

from __future__ import annotations

from fractions import Fraction

import pytest

from datacenter.triggers.syntax import (
    Binary,
    Call,
    ConditionError,
    Name,
    Node,
    Number,
    Text,
    Unary,
    parse_condition,
    parse_duration_ms,
)


def shape(node: Node) -> str:
    """Return the syntax tree as text, fully parenthesized."""
    match node:
        case Number():
            return str(node.value)
        case Name():
            return node.word
        case Text():
            return f'"{node.value}"'
        case Call():
            return f"{node.name}[{', '.join(map(shape, node.arguments))}]"
        case Unary():
            return f"({node.sign} {shape(node.operand)})"
        case Binary():
            return f"({shape(node.left)} {node.sign} {shape(node.right)})"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < 1 or b < 2 and not c > 3", "((a < 1) or ((b < 2) and (not (c > 3))))"),
        ("(a < 1 or b < 2) and c > 3", "(((a < 1) or (b < 2)) and (c > 3))"),
        ("a - 2 * b + 3 <= -c / 4", "(((a - (2 * b)) + 3) <= ((- c) / 4))"),
        ("lamp-intensity-pct - 5 < 70", "((lamp-intensity-pct - 5) < 70)"),
        ("state is not stopped", "(not (state is stopped))"),
        ('westgard(glu, "1-3s")', 'westgard[glu, "1-3s"]'),
        ("count(T0100, 24h) >= 0.5", "(count[T0100, 86400000] >= 1/2)"),
        ("a - b - c > 0", "(((a - b) - c) > 0)"),
    ],
)
def test_operators_bind_by_precedence(text: str, expected: str) -> None:
    assert shape(parse_condition(text)) == expected


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("", 0, "missing at the end"),
        ("a <", 3, "missing at the end"),
        ("a < 1 b < 2", 6, '"b" is unexpected; join conditions with "and" or "or"'),
        ("(a < 1", 6, '")" is missing after the parentheses'),
        ("ewma(a, 3 < 1", 13, '")" is missing after the arguments of ewma'),
        ("a < 1 and and b < 2", 10, 'missing before "and"'),
        ("a ~ 1", 2, "is not a number, a word or one of"),
        ("3-a < 1", 0, "is not a number, a word or one of"),
        ("a < 1x", 4, "is not a number, a word or one of"),
        ("(" * 60 + "a" + ")" * 60, 50, "is nested more than 50 times"),
    ],
)
def test_errors_name_the_position_and_the_correction(text: str, at: int, message: str) -> None:
    with pytest.raises(ConditionError) as error:
        parse_condition(text)
    assert error.value.at == at
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("30min", 1_800_000), ("1.5h", 5_400_000), ("90s", 90_000), ("7d", 604_800_000)],
)
def test_durations_are_milliseconds(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms
    assert parse_condition(text) == Number(Fraction(ms), 0, is_duration=True)


@pytest.mark.parametrize("text", ["30", "a", "1h + 1h", "-1h", "2 hours", ""])
def test_a_duration_needs_a_number_and_a_unit(text: str) -> None:
    with pytest.raises(ConditionError, match="with the unit s, min, h or d"):
        parse_duration_ms(text)
