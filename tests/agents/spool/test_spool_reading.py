"""Each group is decoded once."""

from __future__ import annotations

from dataclasses import replace

import pytest

import agents.spool.disk.segment
from agents.spool import Priority
from agents.spool.disk.group import decode
from tests.support.agents.spool.model import LIMITS, Harness

ALERT, AUDIT, ROUTINE = Priority


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the offset of each decoded group is appended."""
    offsets: list[int] = []

    def recording_decode(header: bytes, body: bytes, offset: int, end: int) -> object:
        offsets.append(offset)
        return decode(header, body, offset, end)

    monkeypatch.setattr(agents.spool.disk.segment, "decode", recording_decode)
    return offsets


@pytest.mark.parametrize("batch", [1, 3, 20])
def test_a_group_is_decoded_once_to_be_read_and_acknowledged(decoded: list[int], batch: int) -> None:
    h = Harness()
    for turn in range(9):  # 180 groups in segments of 14
        for _ in range(20):
            assert h.append([ROUTINE], [100])
            if turn % 2:
                assert h.append([AUDIT], [100])
        while records := h.read(ROUTINE, batch):
            h.ack(ROUTINE, records[-1][0])
        h.ack(AUDIT, max((seq for seq, _ in h.read(AUDIT)), default=0))
    groups = 180 + 80
    assert groups <= len(decoded) < 1.2 * groups


@pytest.mark.parametrize("delivered", [0, 5, 10])
def test_opening_decodes_each_group_once_and_reading_begins_at_waiting_records(
    decoded: list[int], delivered: int
) -> None:
    h = Harness()
    for _ in range(10):
        assert h.append([ROUTINE], [100])
    h.ack(ROUTINE, delivered)
    assert h.append([ROUTINE], [100])
    h.spool.close()
    decoded.clear()
    spool = h.open()
    assert len(decoded) == 13, (
        "a checkpoint, eleven groups and a clean-close marker; the call of `records` in `open` decoded none again"
    )
    assert len(list(spool.recovery.records())) == 11 and len(decoded) > 13, (
        "groups read at opening are released"
    )
    decoded.clear()
    h.read(ROUTINE, 1)
    assert len(decoded) <= 1


def test_more_groups_than_are_remembered_are_decoded_again_at_the_next_read(decoded: list[int]) -> None:
    h = Harness(limits=replace(LIMITS, segment_bytes=1 << 20, spool_bytes_max=3 << 20))
    for _ in range(600):
        assert h.append([ROUTINE], [20])
    assert len(h.spool.log.segments) == 1
    assert len(h.read(ROUTINE)) == 600
    decoded.clear()
    assert len(h.read(ROUTINE)) == 600
    assert len(decoded) == len(set(decoded)) == 601, "a checkpoint and the 600 groups, each once"
