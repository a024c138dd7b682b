from __future__ import annotations

from collections.abc import Iterator

import pytest

from datacenter.store.store import Store
from tests.support.datacenter.web_fleet import fill_fleet


@pytest.fixture(scope="session")
def filled() -> Iterator[Store]:
    """A store with the fleet, which tests share and do not change, apart from sessions of the pages."""
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    yield store
    store.close()
