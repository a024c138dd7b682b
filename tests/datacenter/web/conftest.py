from __future__ import annotations

from collections.abc import Iterator

import pytest

from datacenter.store.store import Store
from tests.support.datacenter.web.client import WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS, fill_fleet
from tests.support.datacenter.web.triggers import known_triggers


@pytest.fixture(scope="session")
def filled() -> Iterator[Store]:
    """A store with the fleet and its simulated reports, which tests share and must not change."""
    store = Store("sqlite://")
    fill_fleet(store)
    yield store
    store.close()


@pytest.fixture
def web(filled: Store) -> WebClient:
    """A browser without a session."""
    return open_web(filled, lambda: NOW_MS, known=known_triggers())


@pytest.fixture
def changing() -> Iterator[WebClient]:
    """A browser on a separate store, without simulated reports, which a test may change."""
    store = Store("sqlite://")
    fill_fleet(store, with_reports=False)
    yield open_web(store, lambda: NOW_MS, known=known_triggers())
    store.close()
