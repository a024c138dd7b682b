"""The commands of `rap`, as words."""

from __future__ import annotations

from rap.__main__ import make_parser
from rap.parser import Parser


def commands() -> frozenset[str]:
    """Return all commands, without the word `rap`."""
    return frozenset(_below(make_parser(), ""))


def _below(parser: Parser, prefix: str) -> set[str]:
    found: set[str] = set()
    for name, child in parser.commands.items():
        found |= {f"{prefix}{name}"} | _below(child, f"{prefix}{name} ")
    return found
