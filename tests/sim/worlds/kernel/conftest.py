"""Tests of the kernel world fail on a machine that cannot run them, instead of passing untested."""

from __future__ import annotations

import itertools
import os

import pytest

from sim.worlds.kernel import missing

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _machine() -> None:
    if lacks := missing():
        pytest.fail("the kernel world cannot be tested here: " + "; ".join(lacks))


@pytest.fixture
def name() -> str:
    """A name that no other lab has, also in other test runs at the same time."""
    return f"test-{os.getpid()}-{next(_numbers)}"
