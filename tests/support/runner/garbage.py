"""Garbage collection that is rare and does not visit the objects created while pytest collects the tests.

A worker has a million objects when its tests begin. Visiting all of them takes half a second, and happens after each
lab (`sim.worlds.run_lab`) and whenever enough objects have survived. Modules and tests are needed until the end.
With Python's default threshold of 700 new objects, the tests spend a twentieth of their processor time on garbage
collection, in some files a quarter.
"""

from __future__ import annotations

import gc
from typing import Final

import pytest

NEW_OBJECTS_MAX: Final = 20_000
"""New objects that start a collection of the youngest generation."""


class FrozenTests:
    """A pytest plugin that excludes all objects that exist after the collection of tests from garbage collection."""

    def pytest_sessionstart(self) -> None:
        gc.disable()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS_MAX, 20, 20)
        gc.enable()
