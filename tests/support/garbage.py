"""Garbage collection that does not visit what the collection of tests has made.

A worker has a million objects when its tests begin. Visiting all of them takes half a second, and happens after each
lab (`sim.worlds.run_lab`) and whenever enough objects have survived. Modules and tests stay until the end anyway.
"""

from __future__ import annotations

import gc

import pytest


class FrozenTests:
    """A pytest plugin."""

    def pytest_sessionstart(self) -> None:
        gc.disable()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        gc.collect()
        gc.freeze()
        gc.enable()
