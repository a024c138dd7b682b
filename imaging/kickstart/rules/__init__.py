"""The linter's rules, by subject. A new rule is a new function in one of these modules; nothing else changes."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from imaging.kickstart.rule import Check, registered


@cache
def all_rules() -> dict[str, Check]:
    """Return every rule, by name."""
    for module in pkgutil.walk_packages(__path__, f"{__name__}."):
        import_module(module.name)
    return dict(sorted(registered.items()))
