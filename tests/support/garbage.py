"""Garbage collection that does not visit the objects created while pytest collects the tests.

A worker has a million objects when its tests begin. Visiting all of them takes half a second, and happens after each
lab (`sim.worlds.run_lab`) and whenever enough objects have survived. Modules and tests are needed until the end.
"""

from __future__ import annotations

import gc

import pytest


class FrozenTests:
    """A pytest plugin that excludes all objects that exist after the collection of tests from garbage collection."""

    def pytest_sessionstart(self) -> None:
        gc.disable()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        gc.collect()
        gc.freeze()
        gc.enable()
