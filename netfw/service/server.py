# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The service's side of the protocol: observers on a Unix socket, each bounded in time, bytes and number.

Only processes of the users allowed are listened to, whatever the mode of the socket's file. An observer that sends
anything but one Hello, too much, nothing in time, or that does not read, is disconnected; the others notice nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import msgspec

from hal import unix_socket
from netfw.events import Event, FirewallState
from netfw.service.protocol import (
    EVENT_BYTES_MAX,
    HEARTBEAT_SECONDS,
    REQUEST_BYTES_MAX,
    VERSION,
    Frames,
    Hello,
    ProtocolError,
    Refusal,
    bounded,
    framed,
)

OBSERVERS_MAX: Final = 8
HELLO_SECONDS: Final = 5.0
UNSENT_BYTES_MAX: Final = EVENT_BYTES_MAX
"""Waiting for an observer that does not read."""
UNHEARD_MAX: Final = 256
"""Events kept while there is no observer."""

Say = Callable[[str], object]


class FirewallServer:
    """Hands events to observers. `connected` makes the protocol object of a new connection."""

    def __init__(
        self, users: Collection[int] | None, say: Say, lost: Callable[[], object] = lambda: None
    ) -> None:
        """`users` are the user ids allowed; None for a connection that only the observer can hold.

        `say` logs; `lost` is called at the end of each connection.
        """
        self.users, self.say, self.lost = users, say, lost
        self.connections: set[_Connection] = set()
        self._unheard: deque[Event] = deque(maxlen=UNHEARD_MAX)
        self._state: FirewallState | None = (
            None  # until the first attempt to put the policy in force has ended
        )
        self._refused_users: set[int] = set()

    def connected(self) -> asyncio.Protocol:
        """The protocol object of a new connection."""
        return _Connection(self)

    def publish(self, event: Event) -> None:
        """Hand an event to all observers. What happens while there is none waits for the next one."""
        event = bounded(event)
        if isinstance(event, FirewallState):
            self._state = event
        observers = [each for each in self.connections if each.is_observer]
        if not observers and not isinstance(event, FirewallState):
            self._unheard.append(event)
        message = framed(event)
        for each in observers:
            each.send(message)

    async def beat(self, alive: Callable[[], object] = lambda: None) -> None:
        """Repeat the state every HEARTBEAT_SECONDS, until cancelled; `alive` is called each time."""
        while True:
            alive()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._state is not None:
                self.publish(self._state)

    def welcome(self) -> bytes:
        """What a new observer gets first."""
        events = [*self._unheard, *([self._state] if self._state is not None else [])]
        self._unheard.clear()
        return b"".join(map(framed, events))

    def refuse_user(self, who: unix_socket.PeerProcess) -> None:
        """Log a process of a user that is not allowed, each user once."""
        if who.uid not in self._refused_users:
            self._refused_users.add(who.uid)
            self.say(f"user {who.uid} (process {who.pid}) may not observe the firewall service")


class _Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: FirewallServer) -> None:
        self._server = server
        self._frames = Frames(REQUEST_BYTES_MAX)
        self.is_observer = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._server.users is not None:
            who = unix_socket.peer(transport.get_extra_info("socket"))
            if who.uid not in self._server.users:
                self._server.refuse_user(who)
                self._refuse(f"user {who.uid} may not observe it; name the user with --user")
                return
        if len(self._server.connections) >= OBSERVERS_MAX:
            self._refuse(f"{OBSERVERS_MAX} observers are connected, and that is the most")
            return
        self._server.connections.add(self)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(HELLO_SECONDS, self._refuse, f"no Hello within {HELLO_SECONDS} s")

    def data_received(self, data: bytes) -> None:
        if self not in self._server.connections:
            return
        try:
            for body in self._frames.feed(data):
                self._take(body)
        except ProtocolError as error:
            self._refuse(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._server.lost()

    def send(self, message: bytes) -> None:
        """Send it; an observer that does not read is disconnected."""
        self._transport.write(message)
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._server.say("an observer does not read, and is disconnected")
            self._forget()
            self._transport.abort()

    def _take(self, body: bytes) -> None:
        try:
            hello = msgspec.msgpack.decode(body, type=Hello)
        except msgspec.DecodeError as error:
            raise ProtocolError(f"only Hello is understood: {error}") from error
        if self.is_observer:
            raise ProtocolError("Hello was said before")
        if hello.version != VERSION:
            raise ProtocolError(f"this service speaks version {VERSION} of the protocol, not {hello.version}")
        self._deadline.cancel()
        self.is_observer = True
        self.send(self._server.welcome())

    def _refuse(self, reason: str) -> None:
        self._forget()
        if not self._transport.is_closing():
            self._transport.write(framed(Refusal(reason)))
            self._transport.close()
            # close() waits for the observer to read; one that does not must not stay
            asyncio.get_running_loop().call_later(HELLO_SECONDS, self._transport.abort)

    def _forget(self) -> None:
        self.is_observer = False
        if self in self._server.connections:
            self._server.connections.discard(self)
            self._deadline.cancel()
