"""The instrument's end of a LIS1-A line: each message is a transfer, repeated until all of it is acknowledged.

`wire.standards.lis1.sender` implements the standard: time limits, repetitions, pauses. This module adds disturbances.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from sim.instruments.host_interface.content import HostMessage
from sim.instruments.host_interface.extraneous import extraneous_bytes
from sim.instruments.host_interface.transmitters.transmitter import (
    Abandon,
    TransmitterAction,
    TransmitterEvents,
)
from wire.standards.astm_dialect import AstmDialect
from wire.standards.engine import Close, Send
from wire.standards.lis1.frames import ENQ, EOT, STX, FrameReader, FrameStyle, Signal, Token, frames_of
from wire.standards.lis1.sender import NAK_OF_ENQ_S, Lis1Sender, Phase

DISTURBANCE_PROBABILITY: Final = 0.04
BROKEN_TRANSFERS: Final = 0.08
"""The probability that the instrument breaks a transfer off. It does not depend on the number of frames."""
_BREAKS: Final = ("late-acknowledgements", "enq-in-transfer", "aborts-transfers", "half-open")
BURST_S: Final = 15.0


def frame_style(dialect: frozenset[str]) -> FrameStyle:
    """Return the frame format of an instrument with this dialect."""
    end, text_bytes_max = b"\r\n", 240
    if "frame-without-lf" in dialect:
        end = b"\r"
    elif "frame-without-cr-lf" in dialect:
        end = b""
    if "records-in-one-frame" in dialect:
        text_bytes_max = 63_000
    elif "records-over-frames" in dialect:
        text_bytes_max = 37
    return FrameStyle(
        text_bytes_max=text_bytes_max,
        first=0 if "first-frame-0" in dialect else 1,
        counted="constant-frame-numbers" not in dialect,
        record_per_frame=not dialect & {"records-in-one-frame", "records-over-frames"},
        checksum="lower"
        if "checksum-lower" in dialect
        else "wrong"
        if "checksum-wrong" in dialect
        else "upper",
        end=end,
    )


class AstmTransmitter:
    """Implements `Transmitter` for ASTM; `serial`: the line cannot be closed."""

    def __init__(
        self, dialect: frozenset[str], events: TransmitterEvents, random: Random, *, serial: bool
    ) -> None:
        self._dialect, self._events, self._random, self._serial = dialect, events, random, serial
        self._style = frame_style(dialect)
        self._sender = Lis1Sender(instrument=True)
        self._reader = FrameReader(AstmDialect())
        self._queue: deque[HostMessage] = deque()
        self._current: HostMessage | None = None
        self._repeating = self._garbled = False
        self._burst = "frames-in-one-write" in dialect
        self._awaited = 0
        """The number of outstanding acknowledgements of a transfer that was sent in one write."""
        self._planned, self._left = "", 0
        """The dialect option that breaks this transfer off ("": none), and the number of acknowledgements before."""

    @property
    def waiting(self) -> int:
        """See `Transmitter`."""
        return len(self._queue) + (self._current is not None)

    @property
    def deadline(self) -> float | None:
        """See `Transmitter`."""
        return self._sender.deadline if self.waiting else None

    def enqueue(self, message: HostMessage) -> None:
        """See `Transmitter`."""
        self._queue.append(message)

    def connected(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        self._reader = FrameReader(AstmDialect())
        return self._bid(now)

    def receive(self, data: bytes, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        actions: list[TransmitterAction] = []
        self._reader.push(data)
        while (token := self._reader.pull()) is not None:
            actions += self._process_burst(token, now) if self._awaited else self._process(token, now)
        return actions + self._bid(now)

    def expired(self, now: float) -> list[TransmitterAction]:
        """See `Transmitter`."""
        if self._sender.phase is Phase.IDLE or now < self._sender.deadline:
            return self._bid(now)
        self._awaited = 0
        return self._sent(self._sender.expired(now))

    def closed(self, now: float) -> None:
        """See `Transmitter`."""
        self._awaited = 0
        self._sender.pause(now)

    def _bid(self, now: float) -> list[TransmitterAction]:
        if self._current is None and self._queue:
            self._current = self._queue.popleft()
            self._sender.add(frames_of(self._current.data, self._style))
        bid = self._sender.bid(now)
        if not bid or self._current is None:
            return []
        before = extraneous_bytes(self._dialect, self._random, self._current)
        frames = self._sender.waiting[0]
        self._plan(len(frames))
        if not self._burst:
            return [Send(before + ENQ)]
        self._awaited, self._sender.deadline = 1 + len(frames), now + BURST_S
        return [Send(before + ENQ + b"".join(frames) + EOT)]

    def _process_burst(self, token: Token, now: float) -> list[TransmitterAction]:
        if token is not Signal.ACK:
            self._refused(token)
            self._awaited = 0
            self._sender.pause(now + NAK_OF_ENQ_S)
            return []
        self._awaited -= 1
        if not self._awaited:
            self._sender.waiting.popleft()
            self._sender.pause(now)
            self._accepted()
        return []

    def _process(self, token: Token, now: float) -> list[TransmitterAction]:
        if self._sender.phase is Phase.IDLE:
            return []
        if token is Signal.ACK and self._planned and not self._left:
            return self._break(now)
        self._left -= token is Signal.ACK
        if token is Signal.NAK and not self._garbled:
            self._refused(token)
        actions = self._sender.reply(token, now)
        if not self._sender.waiting:
            self._accepted()
        return self._sent(actions)

    def _plan(self, frames: int) -> None:
        """Draw whether this transfer is broken off, and at which acknowledgement: of ENQ or of any frame."""
        options = [option for option in _BREAKS if option in self._dialect]
        is_broken = bool(options) and self._random.random() < BROKEN_TRANSFERS
        self._planned = self._random.choice(options) if is_broken else ""
        self._left = self._random.randrange(1 + frames)

    def _break(self, now: float) -> list[TransmitterAction]:
        """Break the transfer off as planned."""
        disturbance, self._planned = self._planned, ""
        if disturbance == "late-acknowledgements":
            return []  # the time limit ends the transfer
        self._sender.pause(now + (NAK_OF_ENQ_S if disturbance == "aborts-transfers" else 0.0))
        if disturbance == "enq-in-transfer":
            return self._sent(self._sender.bid(now))
        if disturbance == "half-open":
            return [Abandon()]
        if self._serial or self._random.random() < 0.5:
            return [Send(EOT)]
        return [Send(STX + b"2R|1|"), Close()]

    def _sent(self, actions: Sequence[object]) -> list[TransmitterAction]:
        sent: list[TransmitterAction] = []
        for action in actions:
            assert isinstance(action, Send)
            self._garbled = action.data[:1] == STX and self._occurs("garbled-frames")
            sent.append(Send(self._with_noise(action.data)) if self._garbled else action)
        return sent

    def _with_noise(self, frame: bytes) -> bytes:
        """Return the frame with one character of its text replaced by another printable one."""
        offset = self._random.randrange(2, max(3, len(frame) - 6))
        return frame[:offset] + (b"#" if frame[offset : offset + 1] != b"#" else b"+") + frame[offset + 1 :]

    def _accepted(self) -> None:
        message, self._current = self._current, None
        if message is None:
            return
        if not self._repeating:
            self._events.done(message)
        self._repeating = not self._repeating and self._occurs("repeats-unasked")
        if self._repeating:
            self._current = message
            self._sender.add(frames_of(message.data, self._style))

    def _refused(self, token: Token) -> None:
        kind = self._current.kind if self._current else "nothing"
        reason = token.value if isinstance(token, Signal) else "a frame"
        self._events.refused(self._current or HostMessage(b"", kind=kind), reason)

    def _occurs(self, option: str) -> bool:
        return option in self._dialect and self._random.random() < DISTURBANCE_PROBABILITY
