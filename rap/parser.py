"""The command line's grammar: `rap NOUN VERB …`, where a wrong word is answered with the nearest right one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias, TypeVar

from rap.outcome import WrongInput

Command: TypeAlias = Callable[[argparse.Namespace], int]
"""Does what the arguments say, and returns the exit status. Raises CommandError."""

N = TypeVar("N")


class Parser(argparse.ArgumentParser):
    """argparse, with suggestions for wrong words and errors as WrongInput."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})
        self._words: list[str] = []
        self._words_action: Any = None

    def word(self, name: str, summary: str) -> Parser:
        """A word that may come next: a noun of `rap`, or a verb of a noun."""
        if self._words_action is None:
            self._words_action = self.add_subparsers(metavar="COMMAND", title="commands", required=True)
        self._words.append(name)
        parser: Parser = self._words_action.add_parser(name, help=summary, description=summary)
        return parser

    def does(self, command: Command) -> None:
        """What is done when the command line ends with this word."""
        self.set_defaults(command=command)

    def error(self, message: str) -> NoReturn:
        """Raise WrongInput with how the command is written."""
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        raise WrongInput(f"{message}\nWrite: {usage}")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: N | None = None
    ) -> tuple[N, list[str]]:
        """As in argparse, after looking at the next word: argparse itself suggests nothing before 3.14."""
        given = sys.argv[1:] if args is None else list(args)
        word = next((word for word in given if not word.startswith("-")), None)
        if self._words and word not in self._words and not {"-h", "--help", "--version"} & set(given):
            raise WrongInput(self._suggestion(word))
        return super().parse_known_args(given, namespace)  # type: ignore[return-value]

    def _suggestion(self, word: str | None) -> str:
        every = f"one of {', '.join(self._words)}"
        if word is None:
            return f"`{self.prog}` needs a command: {every}"
        close = get_close_matches(word, self._words, n=1)
        right = f"did you mean `{self.prog} {close[0]}`?" if close else f"it is {every}"
        return f"there is no command `{self.prog} {word}`; {right}"
