"""Replays a recording for one viewer, with the times of the recording, faster, or step by step.

The viewer's keys control it: space pauses and continues, the arrow keys go 10 s back or forth, and the digits 1 to 9
set the speed.
"""

from __future__ import annotations

import asyncio
from typing import Final

from datacenter.desktop.decoder import PictureDecoder
from datacenter.desktop.receiver import DecodedDesktop
from datacenter.desktop.recording import Recording, find_warm
from wire.desktop.rfb import InputEvent, KeyEvent
from wire.desktop.stream import Update

STEP_MS: Final = 10_000
TICK_SECONDS: Final = 0.25
"""Interval at which the displayed position is updated."""
APPLIED_AT_ONCE: Final = 50
"""Number of messages that are decoded before other tasks of the event loop run."""


class RecordedDesktop(DecodedDesktop):
    """A `ShownDesktop` from a recording; `run` it while it is shown."""

    def __init__(self, recording: Recording) -> None:
        """Raises: DesktopStreamError if the starting content of the stream is not known here."""
        self._frames, self._warm = recording.frames, find_warm(recording.warm, {})
        super().__init__(PictureDecoder(self._warm))
        self._next = 0
        self._is_paused, self._speed = False, 1
        self._position_ms = 0.0
        self._wake = asyncio.Event()

    @property
    def end_ms(self) -> int:
        """The time of the last picture."""
        return self._frames[-1].time_ms if self._frames else 0

    @property
    def note(self) -> str:
        """Position and speed, in words."""
        state = "paused" if self._is_paused else f"{self._speed}x"
        if self._next == len(self._frames) and not self._is_paused:
            state = "end"
        return f": {_clock(int(self._position_ms))} of {_clock(self.end_ms)}, {state}"

    async def send(self, event: InputEvent) -> None:
        """Control the replay by a key."""
        if not isinstance(event, KeyEvent) or not event.is_down:
            return
        match event.key:
            case 0x20:  # space
                self._is_paused = not self._is_paused
            case 0xFF51:  # left
                self._position_ms = max(0.0, self._position_ms - STEP_MS)
            case 0xFF53:  # right
                self._position_ms = min(float(self.end_ms), self._position_ms + STEP_MS)
            case digit if ord("1") <= digit <= ord("9"):
                self._speed = digit - ord("0")
        self._wake.set()

    async def run(self) -> None:
        """Show the recording until cancelled. Raises: DesktopStreamError."""
        loop = asyncio.get_running_loop()
        shown_at = loop.time()
        while True:
            await self._show()
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wake.wait()
                self._wake.clear()
            except TimeoutError:
                pass
            now = loop.time()
            if not self._is_paused:
                passed_ms = (now - shown_at) * 1000 * self._speed
                self._position_ms = min(float(self.end_ms), self._position_ms + passed_ms)
            shown_at = now

    async def _show(self) -> None:
        """Decode up to the position, from the beginning if it is before the displayed one."""
        if self._next and self._frames[self._next - 1].time_ms > self._position_ms:
            self._decoder, self._next = PictureDecoder(self._warm), 0
        while self._next < len(self._frames) and self._frames[self._next].time_ms <= self._position_ms:
            update = self._decoder.apply(self._frames[self._next].message)
            self._next += 1
            self._inform(update)
            if self._next % APPLIED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._inform(Update())


def _clock(time_ms: int) -> str:
    minutes, seconds = divmod(time_ms // 1000, 60)
    return f"{minutes}:{seconds:02}"
