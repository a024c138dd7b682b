# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Problems in settings files: file, line, key and correction of each."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from settings.partial import UnreadError

Key = tuple[str | int, ...]
"""Path of a value: `("instrument", 0, "port")`; array indices count from 0."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: key ("" for the whole file), message with the correction, and line (0: unknown)."""

    key: str
    message: str
    line: int = 0


class SettingsError(ValueError):
    """A settings file cannot be used. The message has one line for each problem: `file:line: key: message`."""

    def __init__(self, file: Path, *problems: Problem) -> None:
        super().__init__("\n".join(_line(file, problem) for problem in problems))
        self.file = file
        self.problems = problems

    @classmethod
    def at(cls, file: Path, key: str, message: str) -> SettingsError:
        """Return the error for one problem found after `file` was read; looks up the line of `key`."""
        try:
            line = line_of(file.read_text("utf-8"), parse_key(key)) if key else 0
        except (OSError, UnicodeDecodeError):
            line = 0
        return cls(file, Problem(key, message, line))


def _line(file: Path, problem: Problem) -> str:
    location = f"{file}:{problem.line}" if problem.line else str(file)
    return ": ".join(part for part in (location, problem.key, problem.message) if part)


class Problems:
    """Collects the problems of one settings file, in the order found."""

    def __init__(self, file: Path, text: str) -> None:
        self.file, self._text = file, text
        self.found: list[Problem] = []

    def add(self, key: Key, message: str) -> None:
        """Record a problem with the value at `key`."""
        self.found.append(Problem(key_text(key), message, line_of(self._text, key) if key else 0))

    @staticmethod
    def part() -> AbstractContextManager[None]:
        """Return a context manager for one part of a check: a value that could not be read ends only this part."""
        return suppress(UnreadError)

    def raise_if_any(self) -> None:
        """Raise SettingsError with all recorded problems, if there are any."""
        if self.found:
            raise SettingsError(self.file, *self.found)


def key_text(key: Key) -> str:
    """Format a key: `instrument[1].port` is the port of the file's second [[instrument]]."""
    names = (f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in key)
    return "".join(names).removeprefix(".")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name) else f'"{name}"'


def parse_key(text: str) -> Key:
    """Parse the output of `key_text`."""
    parts = re.findall(r"""\[(\d+)\]|"([^"]*)"|([^.\[\]"]+)""", text)
    return tuple(int(index) if index else quoted or name for index, quoted, name in parts)


_NAME: Final = r"""(?:"[^"]*"|'[^']*'|[\w-]+)"""
_NAMES: Final = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER: Final = re.compile(rf"\s*\[(\[?)\s*({_NAMES})\s*\]")
_ASSIGNMENT: Final = re.compile(rf"\s*({_NAMES})\s*=(.*)")
_STRING: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|#.*""")


def line_of(text: str, key: Key) -> int:
    """Return the line (from 1) of the value at `key`, or of the innermost table on its path; 1 if neither is found.

    The standard library's TOML parser reports no positions, so this scans for headers and keys.
    """
    best, depth = 1, 0
    table: Key = ()
    counts: dict[Key, int] = {}
    until = ""  # the terminator of a value that spans several lines
    for number, line in enumerate(text.splitlines(), 1):
        if until:
            until = _continued(line, until)
            continue
        if header := _HEADER.match(line):
            here = table = _table(_names(header[2]), bool(header[1]), counts)
        elif assignment := _ASSIGNMENT.match(line):
            here = (*table, *_names(assignment[1]))
            until = _continued(assignment[2], "")
        else:
            continue
        if here[: len(key)] == key:  # the value itself, or the first table of an array
            return number
        if len(here) > depth and key[: len(here)] == here:
            best, depth = number, len(here)
    return best


def _names(dotted: str) -> list[str]:
    return [name.strip("\"'") for name in re.findall(_NAME, dotted)]


def _table(names: list[str], array: bool, counts: dict[Key, int]) -> Key:
    """Return the table that a header begins; `counts` holds the last index of each array of tables so far."""
    path: Key = ()
    for n, name in enumerate(names, 1):
        path = (*path, name)
        if array and n == len(names):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _continued(line: str, until: str) -> str:
    """Return the terminator that a value still needs after this line: quotes, closing brackets, or ""."""
    for quotes in ('"""', "'''"):
        if until == quotes or (not until and quotes in line):
            return quotes if line.count(quotes) % 2 == (until != quotes) else ""
    bare = _STRING.sub("", line)
    depth = len(until) + bare.count("[") - bare.count("]")
    return "]" * max(0, depth)
