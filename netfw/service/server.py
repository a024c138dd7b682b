# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Server side of the firewall service's protocol: observers on a Unix socket, with limits on number, data and time.

Only processes of permitted users are accepted, regardless of the socket file's mode. An observer that
sends no Hello in time, sends invalid or too much data, or does not read is disconnected, without effect on others.

The box program's user may also open and close paths of sessions. A connection's paths are closed when it ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Protocol

from hal import unix_socket
from netfw.events import Event, FirewallState
from netfw.ruleset.sessions import Session
from netfw.service.protocol import (
    EVENT_BYTES_MAX,
    HEARTBEAT_SECONDS,
    REQUEST_BYTES_MAX,
    VERSION,
    ClosePath,
    ConnectionRefusal,
    FirewallProtocolError,
    Frames,
    Hello,
    OpenPath,
    PathAnswer,
    bounded,
    decoded_request,
    framed,
)

OBSERVERS_MAX: Final = 8
HELLO_SECONDS: Final = 5.0
UNSENT_BYTES_MAX: Final = EVENT_BYTES_MAX
"""Maximum data waiting for an observer that does not read."""
UNDELIVERED_MAX: Final = 256
"""Maximum events kept while there is no observer."""
PATH_REQUESTS_MAX: Final = 64
"""Maximum path requests of one connection in PATH_REQUESTS_SECONDS; each takes the service a few milliseconds."""
PATH_REQUESTS_SECONDS: Final = 10.0

Log = Callable[[str], object]


class SessionPaths(Protocol):
    """Opens and closes the paths of sessions: `netfw.service.supervisor`."""

    def open_session(self, session: Session, seconds: int) -> str:
        """Open the path of a session for this time; return why that was refused, or "" if the path is open."""
        ...

    def close_session(self, session: Session) -> None:
        """Close the path of a session. On return, no packets pass."""
        ...


class FirewallServer:
    """Sends events to observers. `connected` creates the protocol object of a new connection."""

    def __init__(
        self,
        users: Collection[int] | None,
        log: Log,
        paths: SessionPaths,
        path_users: Collection[int] = (),
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        """`users` are the permitted user ids; None if the connection is private to the box program.

        `log` logs a message; `path_users` are those of `users` who may open paths of sessions; `lost` is called at
        the end of each connection.
        """
        self.users, self.log, self.lost = users, log, lost
        self.paths, self.path_users = paths, path_users
        self.connections: set[_Connection] = set()
        self._undelivered: deque[Event] = deque(maxlen=UNDELIVERED_MAX)
        # until the first attempt to put the policy in force has finished
        self._state: FirewallState | None = None
        self._refused_users: set[int] = set()

    def connected(self) -> asyncio.Protocol:
        """Create the protocol object of a new connection."""
        return _Connection(self)

    def publish(self, event: Event) -> None:
        """Send an event to all observers. Without observers it is kept for the next one."""
        event = bounded(event)
        if isinstance(event, FirewallState):
            self._state = event
        observers = [each for each in self.connections if each.is_observer]
        if not observers and not isinstance(event, FirewallState):
            self._undelivered.append(event)
        message = framed(event)
        for each in observers:
            each.send(message)

    async def beat(self, alive: Callable[[], object] = lambda: None) -> None:
        """Repeat the state every HEARTBEAT_SECONDS until cancelled; `alive` is called each time."""
        while True:
            alive()
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._state is not None:
                self.publish(self._state)

    def welcome(self) -> bytes:
        """Return the first data for a new observer."""
        events = [*self._undelivered, *([self._state] if self._state is not None else [])]
        self._undelivered.clear()
        return b"".join(map(framed, events))

    def refuse_user(self, process: unix_socket.PeerProcess) -> None:
        """Log that a process of an unauthorized user connected, once per user."""
        if process.uid not in self._refused_users:
            self._refused_users.add(process.uid)
            self.log(f"user {process.uid} (process {process.pid}) may not observe the firewall service")


class _Connection(asyncio.Protocol):
    """The connection of one observer."""

    def __init__(self, server: FirewallServer) -> None:
        self._server = server
        self._frames = Frames(REQUEST_BYTES_MAX)
        self.is_observer = False
        self._may_open_paths = server.users is None
        self._paths: set[Session] = set()
        self._path_requests: deque[float] = deque(maxlen=PATH_REQUESTS_MAX)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._server.users is not None:
            process = unix_socket.peer(transport.get_extra_info("socket"))
            if process.uid not in self._server.users:
                self._server.refuse_user(process)
                self._refuse(f"user {process.uid} may not observe the service; permit the user with --user")
                return
            self._may_open_paths = process.uid in self._server.path_users
        if len(self._server.connections) >= OBSERVERS_MAX:
            self._refuse(f"{OBSERVERS_MAX} observers are connected, which is the maximum")
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
        except FirewallProtocolError as error:
            self._refuse(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._server.lost()

    def send(self, message: bytes) -> None:
        """Send data; an observer that does not read is disconnected."""
        self._transport.write(message)
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._server.log("an observer does not read and is disconnected")
            self._forget()
            self._transport.abort()

    def _take(self, body: bytes) -> None:
        request = decoded_request(body)
        if isinstance(request, Hello):
            self._greet(request)
        elif not self.is_observer:
            raise FirewallProtocolError("a connection begins with Hello")
        else:
            self._take_path_request(request)

    def _greet(self, hello: Hello) -> None:
        if self.is_observer:
            raise FirewallProtocolError("Hello was sent twice")
        if hello.version != VERSION:
            raise FirewallProtocolError(
                f"this service supports version {VERSION} of the protocol, not {hello.version}"
            )
        self._deadline.cancel()
        self.is_observer = True
        self.send(self._server.welcome())

    def _take_path_request(self, request: OpenPath | ClosePath) -> None:
        if not self._may_open_paths:
            raise FirewallProtocolError(
                "only the user of the box program may open and close the paths of sessions"
            )
        now, earlier = asyncio.get_running_loop().time(), self._path_requests
        if len(earlier) == PATH_REQUESTS_MAX and now - earlier[0] < PATH_REQUESTS_SECONDS:
            raise FirewallProtocolError(
                f"more than {PATH_REQUESTS_MAX} requests in {PATH_REQUESTS_SECONDS:g} s"
            )
        earlier.append(now)
        session, problem = request.session(), ""
        if isinstance(request, OpenPath):
            problem = self._server.paths.open_session(session, request.seconds)
            if problem:
                self._server.log(f"the path of a session was refused: {problem}")
            else:
                self._paths.add(session)
        elif session in self._paths:
            self._close_path(session)
        self.send(framed(PathAnswer(problem)))

    def _close_path(self, session: Session) -> None:
        self._paths.discard(session)
        self._server.paths.close_session(session)

    def _refuse(self, reason: str) -> None:
        self._forget()
        if not self._transport.is_closing():
            self._transport.write(framed(ConnectionRefusal(reason)))
            self._transport.close()
            # close() would wait for the observer to read
            asyncio.get_running_loop().call_later(HELLO_SECONDS, self._transport.abort)

    def _forget(self) -> None:
        self.is_observer = False
        for session in list(self._paths):
            self._close_path(session)
        if self in self._server.connections:
            self._server.connections.discard(self)
            self._deadline.cancel()
