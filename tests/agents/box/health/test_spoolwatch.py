"""Monitoring of the spool: one alarm when it fills, one when it empties, and verification in the background."""

from __future__ import annotations

import asyncio
from random import Random

from agents.box.buffer import Buffer
from agents.box.health.audit import AuditLog
from agents.box.health.bounds import box_bounds
from agents.box.health.spoolwatch import FILL_CHECK_SECONDS, watch_spool
from agents.spool import GapReason, Priority, Spool
from hal.emul.clock import EmulClock
from hal.emul.disk import EmulDisk
from sim.net.loop import SimLoop
from tests.support.agents.spool.model import BY_SUMMARIES, decode_gap, encode_gap
from tests.support.agents.spool.open_spool import InspectedSpool, flip_first
from wire.messages import Audit, Entry, decode

ALERT, AUDIT, ROUTINE = Priority


def open_spool(disk: EmulDisk) -> InspectedSpool:
    return InspectedSpool.open(disk, BY_SUMMARIES, random=Random(1), encode_gap=encode_gap)


def watch(spool: Spool, groups: list[int]) -> list[bytes]:
    """Append each of these numbers of groups of a quarter of a segment, or acknowledge all records for 0; return
    the audit records.
    """

    async def main() -> list[bytes]:
        buffer = Buffer(spool)
        bounds = box_bounds(AuditLog(buffer, EmulClock(lambda: 0)), lambda _light: None)
        task = asyncio.ensure_future(watch_spool(buffer, bounds))
        for count in groups:
            for _ in range(count):
                await buffer.append_all([ROUTINE] * 4, [b"x" * 900] * 4)
            if not count:
                await buffer.ack(ROUTINE, (await buffer.status()).next_seq - 1)
            await asyncio.sleep(2.5 * FILL_CHECK_SECONDS)
        task.cancel()
        return [payload for _, payload in await buffer.read(AUDIT, 99, 1 << 20)]

    return SimLoop().run_until_complete(main())


def test_an_alarm_is_raised_again_only_after_the_spool_was_below_its_limit() -> None:
    spool = open_spool(EmulDisk(1 << 30, Random(1)))
    records = watch(spool, [9, 3, 1, 0, 1, 9, 1])
    bodies = [decode(Entry, payload).body for payload in records if decode_gap(payload) is None]
    events = [(body.event, body.value) for body in bodies if isinstance(body, Audit)]
    assert [event for event, _ in events] == ["spool-near-limit", "spool-below-limit", "spool-near-limit"]
    assert 75 <= events[0][1] <= 100 and events[1][1] < 50


def test_losses_of_a_large_spool_are_reported_by_background_verification() -> None:
    disk = EmulDisk(1 << 30, Random(1))
    spool = open_spool(disk)
    for _ in range(9):
        spool.append([ROUTINE] * 4, [b"x" * 900] * 4)
    first = spool.log.segments[0].name
    flip_first(disk, first, b"x" * 900)
    spool = open_spool(disk)
    assert not [gap for gap in spool.recovery.gaps if gap.reason is GapReason.CORRUPT], "not read at opening"
    gaps = [gap for payload in watch(spool, [1]) if (gap := decode_gap(payload))]
    assert [gap.ranges for gap in gaps if gap.reason is GapReason.CORRUPT] == [((1, 1),)]
