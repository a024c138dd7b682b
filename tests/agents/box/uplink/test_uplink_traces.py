"""Connections, batches and responses of the uplink, with their times, equal the traces in `tests/fixtures/uplink`."""

from __future__ import annotations

import pytest

from tests.support.agents.uplink.traces import FOLDER, SCENARIOS, golden, make_pki
from tests.support.crypto.hierarchy import Hierarchy


@pytest.fixture(scope="module")
def rsa_pki(tmp_path_factory: pytest.TempPathFactory) -> Hierarchy:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_uplink_behaves_as_recorded_in_its_trace(name: str, rsa_pki: Hierarchy) -> None:
    expected = (FOLDER / f"{name}.txt").read_text("utf-8")
    assert golden(name, rsa_pki).splitlines() == expected.splitlines(), (
        "if the change is intended, run `make golden`"
    )


def test_each_trace_has_a_scenario() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(SCENARIOS)
