"""A slow data center behind an intermediary that times out with status 504, in simulated time.

The data center processes one batch at a time, including those that have timed out at the intermediary.
"""

from __future__ import annotations

import pytest

from tests.support.agents.uplink.intermediary import (
    QUICK_RECORDS,
    ShortGatewayTimeout,
    best_seconds,
)
from tests.support.crypto.hierarchy import Hierarchy


@pytest.mark.parametrize("timeout_s", [30.0, 60.0])
@pytest.mark.parametrize("connections", [1, 2], ids=["one connection", "spread"])
@pytest.mark.parametrize("least_s", [0.0, 10.0, 25.0], ids=lambda least_s: f"{least_s:g} s at least")
@pytest.mark.parametrize("quick", [0, QUICK_RECORDS], ids=["slow", "becomes slow"])
def test_batches_shrink_until_they_are_answered_in_time(
    pki: Hierarchy, timeout_s: float, connections: int, least_s: float, quick: int
) -> None:
    world = ShortGatewayTimeout(pki, timeout_s, connections, least_s, quick)
    world.run()
    world.check_stored_once()
    assert world.timeouts > 0 or not quick
    assert world.drained_at <= 3 * best_seconds(timeout_s, least_s) + 120
