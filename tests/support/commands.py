"""The commands of `rap`."""

from __future__ import annotations

from rap.__main__ import make_parser
from rap.parser import Parser


def commands() -> frozenset[str]:
    """Return all commands without `rap`, such as "lab" and "lab run"."""
    return frozenset(_below(make_parser(), ""))


def _below(parser: Parser, prefix: str) -> set[str]:
    parser.complete()
    commands_below: set[str] = set()
    for name, child in parser.commands.items():
        commands_below |= {f"{prefix}{name}"} | _below(child, f"{prefix}{name} ")
    return commands_below
