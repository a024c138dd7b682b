from __future__ import annotations

import pytest

from tests.agents.hierarchy import Hierarchy


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Hierarchy:
    return Hierarchy.make(tmp_path_factory.mktemp("pki"))
