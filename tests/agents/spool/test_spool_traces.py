"""The disk's bytes and the counts after operations equal those recorded in `tests/fixtures/spool`."""

from __future__ import annotations

import pytest

from tests.support.agents.spool.traces import FOLDER, WALKS, golden


@pytest.mark.parametrize("name", WALKS)
def test_operations_have_the_results_of_their_trace(name: str) -> None:
    expected = (FOLDER / f"{name}.txt").read_text("utf-8")
    assert golden(name).splitlines() == expected.splitlines(), "if the change is intended, run `make golden`"


def test_each_trace_has_a_walk() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(WALKS)
