"""The two worlds have the same structure."""

from __future__ import annotations

from pathlib import Path

import sim.worlds.kernel
import sim.worlds.virtual


def modules(package: str) -> set[str]:
    return {file.name for file in Path(package).parent.glob("*.py")}


def test_the_worlds_have_the_same_modules():
    kernel, virtual = sim.worlds.kernel.__file__, sim.worlds.virtual.__file__
    assert kernel is not None and virtual is not None
    assert modules(kernel) == modules(virtual)
    assert "world.py" in modules(virtual)
