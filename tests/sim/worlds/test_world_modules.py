"""The virtual and the kernel world have the same modules."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import sim.worlds.kernel
import sim.worlds.virtual


def modules(package: ModuleType) -> set[str]:
    (folder,) = package.__path__
    return {file.name for file in Path(folder).glob("*.py")}


def test_the_worlds_have_the_same_modules() -> None:
    assert modules(sim.worlds.kernel) == modules(sim.worlds.virtual)
    assert "world.py" in modules(sim.worlds.virtual)
