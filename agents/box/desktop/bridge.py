"""Carries the desktop of an instrument's VNC server to the data center, and input events back.

The bridge speaks RFB with the server and the stream of `wire.desktop.stream` with the data center; nothing is
relayed. It requests a picture only when the last one is complete, sends messages at the session's rate in small
writes, and keeps at most 0.4 s of data unacknowledged. The uplink's queues therefore hold no more than that, and
alerts and reports on the uplink are not delayed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import Final

from agents.box.desktop.encoder import INTERACTIVE_MESSAGE_BYTES, MESSAGE_BYTES, PictureEncoder
from agents.box.desktop.masking import MaskedPicture
from agents.box.desktop.pace import LinePace
from settings.profile import DesktopScreen
from wire.desktop.connection import ByteChannel, converse
from wire.desktop.held_input import HeldInput
from wire.desktop.picture import Area, Picture, PictureError
from wire.desktop.rfb import InputEvent, KeyEvent, PointerEvent, RfbError
from wire.desktop.rfb_client import DesktopChange, ServerMessages, handshake, update_request
from wire.desktop.stream import (
    RETURNED_BYTES,
    Acknowledged,
    DesktopStreamError,
    StreamChain,
    UpdateNotice,
    encode_frame,
    encode_header,
    parse_returned,
)
from wire.desktop.warm import COLD, WarmContent

WINDOW_SECONDS: Final = 0.4
"""Limit of unacknowledged data, as seconds at the session's rate: more than a round trip, less than a noticeable
delay."""
UPDATE_PAUSE_SECONDS: Final = 0.015
"""Pause before the next update request, so that one response contains several changes."""
INTERACTIVE_SECONDS: Final = 3.0
"""Time after an input event in which messages are kept short."""
PROBE_SECONDS: Final = 5.0
"""Time without a message after which one pixel is requested from the server; if the response takes longer than this,
the server counts as stalled."""
HANDSHAKE_SECONDS_MAX: Final = 10.0
ACKNOWLEDGEMENT_SECONDS_MAX: Final = 25.0
"""Time without an acknowledgement after which the connection counts as dead."""
RELEASE_SECONDS_MAX: Final = 1.0
INPUTS_MAX: Final = 256
"""Maximum number of input events queued for the server. Further ones are dropped, except key releases."""


class DesktopEndedError(Exception):
    """The desktop can no longer be shown; the message gives the reason."""


class DesktopBridge:
    """Bridges one session's desktop. The session closes both connections after `run`."""

    def __init__(
        self,
        server: ByteChannel,
        datacenter: ByteChannel,
        *,
        bytes_per_second: float,
        has_control: bool,
        screen: DesktopScreen | None = None,
        password: bytes = b"",
        warm: WarmContent = COLD,
    ) -> None:
        """`server` is connected to the VNC server, `datacenter` to the data center. `screen` is from the profile."""
        self._server, self._datacenter = server, datacenter
        self._screen, self._password, self._warm = screen, password, warm
        self._held = HeldInput(has_control=has_control)
        self._rate, self._pace = bytes_per_second, LinePace(bytes_per_second)
        self._loop = asyncio.get_running_loop()
        self._messages: ServerMessages
        self._masked: MaskedPicture
        self._encoder: PictureEncoder
        self.chain = StreamChain()
        """The hash chain of the sent messages."""
        self._changed = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._in_flight: deque[int] = deque()
        """The lengths of the messages that are not acknowledged."""
        self._sent = 0
        self._inputs: deque[InputEvent] = deque()
        self._has_input = asyncio.Event()
        self._input_at = -math.inf
        """Time of the last input event."""
        self._heard = asyncio.Event()
        self._notice = UpdateNotice.NOTHING

    @property
    def is_stalled(self) -> bool:
        """Whether the VNC server does not respond."""
        return UpdateNotice.STALLED in self._notice

    def set_control(self, *, has_control: bool) -> None:
        """Give or withdraw control; without it, all pressed keys and buttons are released."""
        self._enqueue(self._held.set_control(has_control=has_control))
        self._set_notice(UpdateNotice.VIEW_ONLY, holds=not has_control)

    async def run(self) -> None:
        """Show the desktop until cancelled. Keys and buttons are released in any case.

        Raises: DesktopEndedError when one of the connections ends, or sends invalid data.
        """
        try:
            await _run_part("the VNC server", self._begin())
            async with asyncio.TaskGroup() as tasks:
                for part in (self._receive_pictures(), self._probe(), self._send_inputs()):
                    tasks.create_task(_run_part("the VNC server", part))
                for part in (self._send(), self._receive_returned()):
                    tasks.create_task(_run_part("the data center", part))
        except ExceptionGroup as errors:
            # `except*` wraps what is raised in it into a group again (Python 3.11.2)
            ended, others = errors.split(DesktopEndedError)
            if ended is None or others is not None:
                raise
            raise ended.exceptions[0] from None
        finally:
            self._enqueue(self._held.release())
            with suppress(OSError):  # includes TimeoutError
                async with asyncio.timeout(RELEASE_SECONDS_MAX):
                    while self._inputs:
                        await self._send_input()

    async def _begin(self) -> None:
        async with asyncio.timeout(HANDSHAKE_SECONDS_MAX):
            init = await converse(self._server, handshake(self._password))
        self._messages = ServerMessages(Picture(init.width, init.height))
        self._masked = MaskedPicture(self._messages.picture, self._screen)
        self._encoder = PictureEncoder(self._masked.picture, self._warm)

    async def _receive_pictures(self) -> None:
        await self._server.write(update_request(self._messages.picture.area, incremental=False))
        while True:
            change = await converse(self._server, self._messages.message())
            self._heard.set()
            self._set_notice(UpdateNotice.STALLED, holds=False)
            if change.is_resized:
                self._masked = MaskedPicture(self._messages.picture, self._screen)
                self._encoder.resized(self._masked.picture)
            self._apply(change)
            if change.is_update:
                await asyncio.sleep(UPDATE_PAUSE_SECONDS)
                request = update_request(self._messages.picture.area, incremental=not change.is_resized)
                await self._server.write(request)

    def _apply(self, change: DesktopChange) -> None:
        for area in change.areas:
            self._masked.update(area)
        self._encoder.changed(*change.areas)
        if change.cursor is not None:
            self._encoder.set_cursor(change.cursor)
        if change.is_bell:
            self._encoder.ring()
        self._changed.set()

    async def _probe(self) -> None:
        while True:
            if await self._server_responds():
                continue
            await self._server.write(update_request(Area(0, 0, 1, 1), incremental=False))
            if not await self._server_responds():
                self._set_notice(UpdateNotice.STALLED, holds=True)
                await self._heard.wait()

    async def _server_responds(self) -> bool:
        """Wait for a message of the server, for at most `PROBE_SECONDS`; return whether one arrived."""
        self._heard.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                await self._heard.wait()
        return self._heard.is_set()

    def _set_notice(self, notice: UpdateNotice, *, holds: bool) -> None:
        if holds != (notice in self._notice):
            self._notice ^= notice
            self._changed.set()

    async def _send(self) -> None:
        started_at = self._loop.time()
        await self._write_paced(encode_header(self._warm.identity))
        while True:
            self._changed.clear()
            # encoded only when it can be sent, so that it contains the changes that are urgent at that time
            while await self._may_send() and (message := self._next_message()) is not None:
                frame = encode_frame(message, int(1000 * (self._loop.time() - started_at)))
                self._in_flight.append(len(frame))
                self._sent += 1
                await self._write_paced(frame)
            await self._changed.wait()

    def _next_message(self) -> bytes | None:
        self._encoder.set_notice(self._notice)
        is_interactive = self._loop.time() - self._input_at < INTERACTIVE_SECONDS
        return self._encoder.next_message(INTERACTIVE_MESSAGE_BYTES if is_interactive else MESSAGE_BYTES)

    async def _may_send(self) -> bool:
        """Wait until everything written is sent at the session's rate and the window has room. Returns True."""
        await self._pace.free()
        await self._wait_for_room()
        return True

    async def _wait_for_room(self) -> None:
        """Wait until at most the window, or at most one message, is unacknowledged."""
        while len(self._in_flight) > 1 and sum(self._in_flight) > self._rate * WINDOW_SECONDS:
            self._acknowledged.clear()
            try:
                async with asyncio.timeout(ACKNOWLEDGEMENT_SECONDS_MAX):
                    await self._acknowledged.wait()
            except TimeoutError:
                raise DesktopEndedError(
                    f"the data center has acknowledged nothing for {ACKNOWLEDGEMENT_SECONDS_MAX:g} s"
                ) from None

    async def _write_paced(self, data: bytes) -> None:
        self.chain.add(data)
        await self._pace.write(self._datacenter, data)

    async def _receive_returned(self) -> None:
        while True:
            kind = await self._datacenter.read_exactly(1)
            if kind not in RETURNED_BYTES:
                raise DesktopStreamError(f"a message of the unknown type {kind[0]}")
            returned = parse_returned(kind, await self._datacenter.read_exactly(RETURNED_BYTES[kind]))
            if not isinstance(returned, Acknowledged):
                self._input_at = self._loop.time()
                self._enqueue(self._accepted(returned))
                continue
            count = (returned.updates - self._sent + len(self._in_flight)) % 2**32
            if count > len(self._in_flight):
                raise DesktopStreamError("an acknowledgement of a message that was not sent")
            for _ in range(count):
                self._in_flight.popleft()
            self._acknowledged.set()

    def _accepted(self, event: InputEvent) -> list[InputEvent]:
        if isinstance(event, PointerEvent):
            picture = self._messages.picture
            event = event._replace(x=min(event.x, picture.width - 1), y=min(event.y, picture.height - 1))
        is_release = isinstance(event, KeyEvent) and not event.is_down
        return self._held.event(event) if is_release or len(self._inputs) < INPUTS_MAX else []

    def _enqueue(self, events: Iterable[InputEvent]) -> None:
        for event in events:
            if (
                isinstance(event, PointerEvent)
                and self._inputs
                and isinstance(last := self._inputs[-1], PointerEvent)
                and last.buttons == event.buttons
            ):
                self._inputs.pop()  # only the last position counts
            self._inputs.append(event)
        self._has_input.set()

    async def _send_inputs(self) -> None:
        """Send waiting inputs to the server; a server that reads nothing blocks only this task."""
        while True:
            self._has_input.clear()
            while self._inputs:
                await self._send_input()
            await self._has_input.wait()

    async def _send_input(self) -> None:
        await self._server.write(self._inputs.popleft().encode())


async def _run_part(peer: str, part: Coroutine[None, None, None]) -> None:
    """Run a part; an error that the peer causes becomes a `DesktopEndedError`."""
    try:
        await part
    except EOFError:
        raise DesktopEndedError(f"{peer} closed the connection") from None
    except TimeoutError:
        raise DesktopEndedError(f"{peer} does not respond") from None
    except OSError as error:
        raise DesktopEndedError(f"the connection to {peer} is lost: {error}") from None
    except (RfbError, DesktopStreamError, PictureError) as error:
        raise DesktopEndedError(f"{peer}: {error}") from None
