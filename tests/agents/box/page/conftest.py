"""The box's local page behind a real httpd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.agents.served_page import ServedPage, served_page
from tests.support.httpd import make_pki


@pytest.fixture(scope="module")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    """The page of this module's tests."""
    pki = make_pki(tmp_path_factory.mktemp("pki"))
    with served_page(tmp_path_factory.mktemp("httpd"), pki) as page:
        yield page


@pytest.fixture
def served(page_server: ServedPage) -> Iterator[ServedPage]:
    """The page, whose sessions are ended after the test."""
    yield page_server
    page_server.end_all()
