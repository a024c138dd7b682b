"""Nothing is lost, stored twice or noticed twice when the program and the database server are killed."""

from __future__ import annotations

import pytest

from tests.support.datacenter.kills import kill_repeatedly


@pytest.mark.slow("kills the program and the database server eight times")
def test_kills_lose_nothing_and_repeat_nothing() -> None:
    found = kill_repeatedly(kills=8, seed=2)
    assert found.kills["program"] and found.kills["database"] and found.alerts
    assert (found.lost, found.duplicates, found.wrong_alerts) == (0, 0, 0)
    assert (found.unnoticed, found.repeated) == (0, 0)
