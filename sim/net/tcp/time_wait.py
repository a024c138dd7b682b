"""TIME-WAIT: the end that closed a connection first answers a repeated FIN (tcp_timewait_state_process)."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import takewhile
from typing import Final, Generic, TypeVar

from sim.net.segment import FIN, RST, SYN, TcpSegment

TIME_WAIT_NS: Final = 60_000_000_000
"""Duration of TIME-WAIT: Linux's TCP_TIMEWAIT_LEN."""

Flow = TypeVar("Flow", bound=Hashable)


class TimeWait(Generic[Flow]):
    """The connections of a host in TIME-WAIT."""

    def __init__(self) -> None:
        self._answers: dict[Flow, tuple[int, TcpSegment]] = {}
        """The end of the state and the last acknowledgement, in the order of the ends."""

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, flow: Flow, answer: TcpSegment, now: int) -> None:
        """Keep a closed connection for TIME_WAIT_NS; `answer` is its last acknowledgement."""
        for ended, _ in list(takewhile(lambda item: item[1][0] <= now, self._answers.items())):
            del self._answers[ended]
        self._answers.pop(flow, None)
        self._answers[flow] = now + TIME_WAIT_NS, answer

    def receive(self, flow: Flow, segment: TcpSegment, now: int) -> tuple[bool, TcpSegment | None]:
        """Return whether a segment belongs to a connection in TIME-WAIT, and the answer to it."""
        until, answer = self._answers.get(flow, (0, None))
        if answer is None or until <= now:
            return False, None
        if segment.flags & (RST | SYN):
            del self._answers[flow]
            return bool(segment.flags & RST), None
        if not segment.data and not segment.flags & FIN:
            return True, None
        self.add(flow, answer, now)
        return True, answer
