"""A fact about a box: a key, its values, and the evidence that it was computed from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from settings.types import Table
from trust.evidence import Evidence
from trust.machine import ExaminedBox

_COMMENT: Final = re.compile(r"^\s*([#;].*)?$")


class Fact(Table, frozen=True):
    """Values of one property, one per line; an empty list means that the evidence shows that there are none."""

    key: str
    values: tuple[str, ...]
    evidence: tuple[str, ...]
    """Ids of the evidence."""


Source: TypeAlias = Callable[[ExaminedBox], Iterator[Fact]]
"""Computes facts from a machine; yields only facts for which there is evidence."""


def fact(key: str, values: str | Iterable[str], *evidence: Evidence | None) -> Fact:
    """Return a fact; its values in the given order."""
    lines = (values,) if isinstance(values, str) else tuple(values)
    return Fact(key=key, values=lines, evidence=tuple(each.id for each in evidence if each))


def links(listed: Evidence | None) -> list[tuple[str, str]]:
    """Return each path of a listing with the target of the link, or ""."""
    rows = (line.partition(" -> ") for line in listed.text.splitlines()) if listed else ()
    return [(path, target) for path, _, target in rows]


def names(listed: Evidence | None) -> list[str]:
    """Return the paths of a listing."""
    return [path for path, _ in links(listed)]


def settings_lines(text: str) -> list[str]:
    """Return the lines of a configuration file that are neither empty nor comments, with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines() if not _COMMENT.match(line)]
