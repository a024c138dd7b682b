"""Recorded conversations over a TCP connection on loopback, and over a pty."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from sim.conversations.casefile import Conversation
from sim.conversations.player import Connect, Played, Split, play_over
from tests.support.sim.conversations.lines import connect_by_pty, connect_by_tcp, without_long_waits
from tests.support.sim.conversations.recorded import IN_REAL_TIME as CASES


def play_all(connect: Connect, cases: Sequence[Conversation], split: Split) -> list[Played]:
    """Play all cases at the same time, each with a separate box."""

    async def main() -> list[Played]:
        return await asyncio.gather(
            *(play_over(connect, case, case.file.read_bytes(), split, without_long_waits) for case in cases)
        )

    return asyncio.run(main())


def whole(data: bytes) -> list[bytes]:
    return [data]


def in_sevens(data: bytes) -> list[bytes]:
    return [data[offset : offset + 7] for offset in range(0, len(data), 7)]


@pytest.mark.parametrize("split", [whole, in_sevens])
@pytest.mark.parametrize("connect", [connect_by_tcp, connect_by_pty])
def test_each_recorded_conversation_has_the_expected_result_over_a_real_line(
    connect: Connect, split: Split
) -> None:
    played = play_all(connect, CASES, split)
    assert {case.name: one.problems for case, one in zip(CASES, played, strict=True) if one.problems} == {}


@pytest.mark.parametrize("connect", [connect_by_tcp, connect_by_pty])
def test_a_wrong_report_is_detected_over_a_real_line(connect: Connect) -> None:
    (case,) = (case for case in CASES if case.name == "hl7-pipelined-with-litter")
    (played,) = play_all(connect, [replace(case, reports=case.reports[::-1])], whole)
    assert any("state = 'idle' expected, got 'maintenance'" in problem for problem in played.problems)
