"""Self-contained batches behind an HTTP intermediary that spreads requests over connections, in simulated time."""

from __future__ import annotations

import pytest

from agents.box.uplink.forwarder import SELF_CONTAINED_SECONDS
from tests.support.agents.uplink.intermediary import HOUR, Spread
from tests.support.crypto.hierarchy import Hierarchy
from wire.compression import BodyKind


def episodes(world: Spread) -> list[float]:
    """Return the times at which the data center began to refuse; refusals within a minute count as one."""
    starts: list[float] = []
    for seen in world.refusals():
        if not starts or seen.at - starts[-1] > 60:
            starts.append(seen.at)
    return starts


class TenHours(Spread):
    """The intermediary distributes requests for seven hours."""

    async def live(self) -> None:
        await self.report_for(7)
        self.connections = 1
        await self.report_for(3)
        await self.drained()


@pytest.mark.parametrize("refusal", [409, 400], ids=["conflict", "from an intermediary"])
def test_batches_are_self_contained_for_four_hours_and_then_streaming_is_tried_again(
    pki: Hierarchy, refusal: int
) -> None:
    world = TenHours(pki)
    world.refusal = refusal
    world.run()
    first, second = episodes(world)
    assert first < 60
    assert {seen.status for seen in world.refusals()} == {refusal}
    for start in (first, second):
        within = [seen for seen in world.seen if start + 5 < seen.at < start + SELF_CONTAINED_SECONDS]
        assert len(within) > 20
        assert {seen.kind for seen in within} == {BodyKind.SELF_CONTAINED}
    between = [seen for seen in world.seen if first + SELF_CONTAINED_SECONDS <= seen.at < second]
    assert [seen.kind for seen in between] == [BodyKind.BEGINS], "one batch starts a stream"
    assert second - first - SELF_CONTAINED_SECONDS < 900
    after = [seen for seen in world.seen if seen.at > second + SELF_CONTAINED_SECONDS + 5]
    assert len(after) > 5 and {seen.kind for seen in after[1:]} == {BodyKind.CONTINUES}, "one stream"
    world.check_stored_once()


class Restarted(Spread):
    """The box program restarts twice within the four hours."""

    async def live(self) -> None:
        self.starts = [0.0]
        await self.report_for(1)
        for _ in range(2):
            self.starts.append(self.loop.time())
            await self.restart()
            await self.report_for(1)
        await self.drained()


def test_a_restarted_box_tries_one_stream_and_falls_back_again(pki: Hierarchy) -> None:
    world = Restarted(pki)
    world.run()
    assert len(episodes(world)) == 3
    for start, refused_at in zip(world.starts, episodes(world), strict=True):
        assert start <= refused_at < start + 700
        after = [seen for seen in world.seen if refused_at + 5 < seen.at < start + HOUR]
        assert len(after) > 4 and {seen.kind for seen in after} == {BodyKind.SELF_CONTAINED}
    world.check_stored_once()


class RefusedAgain(Spread):
    """Two hours after the first refusal, even self-contained batches are refused for half an hour."""

    async def live(self) -> None:
        await self.report_for(2)
        self.refuses_all = True
        await self.report_for(0.5)
        self.refuses_all = False
        await self.report_for(3.5)
        await self.drained()


def test_a_refusal_of_self_contained_batches_backs_off_and_does_not_prolong_the_fallback(
    pki: Hierarchy,
) -> None:
    world = RefusedAgain(pki)
    world.run()
    again = [seen for seen in world.refusals() if 2 * HOUR <= seen.at <= 2.5 * HOUR]
    assert {seen.kind for seen in again} == {BodyKind.SELF_CONTAINED}
    assert 20 <= len(again) <= 120, "one or two a minute"
    first = episodes(world)[0]
    kinds = [seen.kind for seen in world.seen if seen.at >= first + SELF_CONTAINED_SECONDS]
    assert kinds[0] is BodyKind.BEGINS
    assert BodyKind.SELF_CONTAINED in kinds
    world.check_stored_once()
