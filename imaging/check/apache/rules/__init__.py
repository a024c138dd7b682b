"""The rules of the Apache 2.4 STIGs that can be checked in a configuration; each is a function with `@rule`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from imaging.check.apache.rule import ApacheRule, registered


@cache
def all_rules() -> dict[str, ApacheRule]:
    """Return every registered rule, by STIG identifier."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(registered.items()))
