"""The linter's rules, by subject. A new rule is a new function in one of these modules; nothing else changes."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from imaging.kickstart.rule import Check, registered


@cache
def all_rules() -> dict[str, Check]:
    """Every rule, by name."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(registered.items()))
