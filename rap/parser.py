"""Command line parser for `rap NOUN VERB …` that suggests corrections for unknown commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias, TypeVar

from rap.outcome import WrongInput

Command: TypeAlias = Callable[[argparse.Namespace], int]
"""Executes a command and returns the exit status. Raises: CommandError."""

N = TypeVar("N")


class Parser(argparse.ArgumentParser):
    """An argparse parser that suggests corrections and raises WrongInput instead of exiting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self.commands: dict[str, Parser] = {}
        """The parser of each subcommand, by its name."""
        self._subparsers_action: Any = None
        self.define: Callable[[Parser], None] | None = None
        """Adds arguments and subcommands before the first parsing."""

    def add_command(self, name: str, summary: str, define: Callable[[Parser], None] | None = None) -> Parser:
        """Add a subcommand (a noun of `rap`, or a verb of a noun) and return its parser.

        `define` is called with that parser before it parses its first arguments, and adds what it parses.
        """
        if self._subparsers_action is None:
            self._subparsers_action = self.add_subparsers(metavar="COMMAND", title="commands", required=True)
        self.commands[name] = self._subparsers_action.add_parser(name, help=summary, description=summary)
        self.commands[name].define = define
        return self.commands[name]

    def complete(self) -> None:
        """Add the arguments and subcommands that are only added when needed."""
        if self.define is not None:
            self.define(self)
            self.define = None

    def set_command(self, command: Command) -> None:
        """Set the function that executes this command."""
        self.set_defaults(command=command)

    def error(self, message: str) -> NoReturn:
        """Raise WrongInput with the message and the usage."""
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        raise WrongInput(f"{message}\nUsage: {usage}")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: N | None = None
    ) -> tuple[N, list[str]]:
        """Check the next command, then parse as argparse does, which makes no suggestions before Python 3.14."""
        self.complete()
        given = sys.argv[1:] if args is None else list(args)
        word = next((word for word in given if not word.startswith("-")), None)
        if self.commands and word not in self.commands and not {"-h", "--help", "--version"} & set(given):
            raise WrongInput(self._suggestion(word))
        return super().parse_known_args(given, namespace)  # type: ignore[return-value]

    def _suggestion(self, word: str | None) -> str:
        all_commands = f"one of {', '.join(self.commands)}"
        if word is None:
            return f"`{self.prog}` needs a command: {all_commands}"
        matches = get_close_matches(word, self.commands, n=1)
        suggestion = f"did you mean `{self.prog} {matches[0]}`?" if matches else f"use {all_commands}"
        return f"unknown command `{self.prog} {word}`; {suggestion}"


def byte_count(given: str) -> int:
    """Parse a number of bytes from the command line."""
    if not given.isdecimal() or not int(given):
        raise argparse.ArgumentTypeError(f"{given!r}: give a whole number of bytes, such as 32000000000")
    return int(given)


def refuse_options(arguments: argparse.Namespace, needed: str, options: Sequence[str]) -> None:
    """Raise WrongInput if one of these options, which require `needed`, is given."""
    for option in options:
        if getattr(arguments, option):
            raise WrongInput(f"--{option.replace('_', '-')} requires {needed}")
