"""The sending side of a transfer: enquiry, contention, frames, repetitions (LIS1-A 8.2 to 8.5)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Final

from wire.standards.engine import Action, Send
from wire.standards.lis1.frames import ENQ, EOT, REPLY_S, Signal, Token

NAK_OF_ENQ_S: Final = 10.0
"""The pause after NAK of ENQ, and after a session that failed."""
CONTENTION_INSTRUMENT_S: Final = 1.0
CONTENTION_HOST_S: Final = 20.0
TRIES_MAX: Final = 6


class Phase(Enum):
    """The reply that a sender waits for."""

    IDLE = "nothing"
    BIDDING = "the reply to ENQ"
    SENDING = "the reply to a frame"


class Lis1Sender:
    """Sends sessions in order. A failed session is sent again from its first frame, until all of it is accepted."""

    def __init__(self, *, instrument: bool) -> None:
        self.waiting: deque[tuple[bytes, ...]] = deque()
        """Sessions not yet accepted as a whole, each as its frames."""
        self.phase = Phase.IDLE
        self.deadline = 0.0
        """The time at which the reply is overdue; while idle, the time from which ENQ may be sent."""
        self._contention_s = CONTENTION_INSTRUMENT_S if instrument else CONTENTION_HOST_S
        self._position = self._tries = 0

    def add(self, frames: Iterable[bytes]) -> None:
        """Append a session."""
        self.waiting.append(tuple(frames))

    def bid(self, now: float) -> list[Action]:
        """Send ENQ if a session waits and the pause is over."""
        if self.phase is not Phase.IDLE or not self.waiting or now < self.deadline:
            return []
        self.phase, self.deadline = Phase.BIDDING, now + REPLY_S
        return [Send(ENQ)]

    def reply(self, token: Token, now: float) -> list[Action]:
        """Process a reply of the other end."""
        if self.phase is Phase.BIDDING:
            return self._reply_to_enquiry(token, now)
        # EOT accepts the frame and requests a pause, which need not be granted
        if token in (Signal.ACK, Signal.EOT):
            self._position, self._tries = self._position + 1, 0
            return self._send_frame(now)
        if token is Signal.CUT:
            return []
        return self._send_frame(now)  # anything else means NAK

    def _reply_to_enquiry(self, token: Token, now: float) -> list[Action]:
        if token is Signal.ACK:
            self.phase, self._position, self._tries = Phase.SENDING, 0, 0
            return self._send_frame(now)
        if token is Signal.NAK:
            self.pause(now + NAK_OF_ENQ_S)
        elif token is Signal.ENQ:
            self.pause(now + self._contention_s)
        return []

    def expired(self, now: float) -> list[Action]:
        """Process an overdue reply: end the session."""
        self.pause(now + NAK_OF_ENQ_S)
        return [Send(EOT)]

    def pause(self, until: float) -> None:
        """Become idle, and do not send ENQ before `until`."""
        self.phase, self.deadline = Phase.IDLE, until

    def _send_frame(self, now: float) -> list[Action]:
        frames = self.waiting[0]
        if self._position == len(frames):
            self.waiting.popleft()
            self.pause(now)
            return [Send(EOT)]
        if self._tries == TRIES_MAX:
            return self.expired(now)
        self._tries += 1
        self.deadline = now + REPLY_S
        return [Send(frames[self._position])]
