"""No record or notice is lost or repeated when the program and the database server are killed."""

from __future__ import annotations

import pytest

from tests.support.datacenter.store.kills import kill_repeatedly


@pytest.mark.slow("kills the program and the database server eight times")
def test_kills_lose_nothing_and_repeat_nothing() -> None:
    losses = kill_repeatedly(kills=8, seed=2)
    assert losses.kills["program"] and losses.kills["database"] and losses.alerts
    assert (losses.lost, losses.duplicates, losses.wrong_alerts) == (0, 0, 0)
    assert (losses.unnoticed, losses.repeated) == (0, 0)
