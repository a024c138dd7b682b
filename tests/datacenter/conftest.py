from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from datacenter.schema import metadata
from datacenter.store import Store

POSTGRES = os.environ.get("RAP_TEST_POSTGRES", "")
"""The URL of an empty database that may be filled and emptied, to run the tests of the store on it too."""


@pytest.fixture(params=["memory", "file", *(["postgresql"] if POSTGRES else [])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    urls = {"memory": "sqlite://", "file": f"sqlite:///{tmp_path / 'store.db'}", "postgresql": POSTGRES}
    if request.param == "postgresql":
        engine = create_engine(POSTGRES)
        metadata.drop_all(engine)
        engine.dispose()
    return urls[request.param]


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url)
    store.authorize(["RAP-0001", "RAP-0002"], 0)
    yield store
    store.close()
