"""The segments of short connections, and their times, equal the traces in `tests/fixtures/tcp`."""

from __future__ import annotations

import pytest

from tests.support.sim.traced import SCENARIOS
from tests.support.sim.traces import FOLDER, golden


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_segments_of_a_connection_equal_its_trace(name: str) -> None:
    expected = (FOLDER / f"{name}.txt").read_text("utf-8")
    assert golden(name).splitlines() == expected.splitlines(), "if the change is intended, run `make golden`"


def test_each_trace_has_a_scenario() -> None:
    assert {file.stem for file in FOLDER.glob("*.txt")} == set(SCENARIOS)
