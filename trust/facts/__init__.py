"""Facts about a box. Each module computes the facts of one subject; `all_facts` discovers the modules."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from trust.fact import Fact, Source
from trust.machine import ExaminedBox


def sources() -> list[Source]:
    """Return the functions that compute facts, in the order of their modules' names."""
    names = sorted(info.name for info in iter_modules(__path__))
    return [import_module(f"{__name__}.{name}").facts for name in names]


def all_facts(machine: ExaminedBox) -> dict[str, Fact]:
    """Return all facts for which there is evidence, by key."""
    facts: dict[str, Fact] = {}
    for source in sources():
        for fact in source(machine):
            assert fact.key not in facts, f"{fact.key} is computed twice"
            if fact.evidence:
                facts[fact.key] = fact
    return facts
