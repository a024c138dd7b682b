"""Fixtures of the kernel world's tests, which fail on a machine that cannot run them."""

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
    """A unique name for a lab, even if several test runs are active."""
    return f"test-{os.getpid()}-{next(_numbers)}"
