from __future__ import annotations

from collections.abc import Iterator

import pytest

from datacenter.store.store import Store
from tests.support.datacenter.web.fleet import fill_fleet


@pytest.fixture(scope="session")
def filled() -> Iterator[Store]:
    """A store filled with the fleet. The tests share it, and change nothing in it but web sessions."""
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    yield store
    store.close()
