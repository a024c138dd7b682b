# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Client of the firewall service: it observes the firewall's state for a box program, and opens session paths.

A killed service is restarted within seconds, and its policy remains in the kernel until then. A lost connection alone
therefore changes nothing: the last confirmation is valid for CONFIRMED_SECONDS. After that the firewall's state is
unknown, and the box must not serve instruments.

Service and box program start at the same time. During the first CONFIRMED_SECONDS, a policy that is not yet in force
is therefore not reported as a problem. Instruments are not served before the policy is confirmed.

The paths of sessions are closed when the connection ends: by the service, at once or when it starts again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from netfw.events import Event, FirewallState, PathsLost
from netfw.ruleset.sessions import Session
from netfw.service.protocol import (
    EVENT_BYTES_MAX,
    LENGTH_BYTES,
    Answer,
    ClosePath,
    ConnectionRefusal,
    FirewallProtocolError,
    Hello,
    OpenPath,
    PathAnswer,
    decoded,
    framed,
    length,
)

CONFIRMED_SECONDS: Final = 10.0
"""How long a confirmation is valid."""
RECONNECT_SECONDS: Final = 0.5
PATH_ANSWER_SECONDS: Final = 2.0
"""Time limit for opening or closing a path; after it the connection is closed, and with it all paths."""

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[Streams]]


class FirewallClient:
    """Observes the firewall service over connections that `connect` opens."""

    def __init__(self, connect: Connect) -> None:
        """`connect` opens a connection for the duration of the context. Raises: OSError, FirewallProtocolError."""
        self._connect = connect
        self._confirmed_at: float | None = None
        self._problem = ""
        self._starting_until = 0.0
        self._writer: asyncio.StreamWriter | None = None
        self._answers: deque[asyncio.Future[str]] = deque()
        self._paths: set[Session] = set()

    async def open_path(self, path: Session, seconds: int) -> bool:
        """Open the path of a session for this time; return whether the kernel has it."""
        if await self._ask(OpenPath.of(path, seconds=seconds)):
            return False
        self._paths.add(path)
        return True

    async def close_path(self, path: Session) -> None:
        """Close the path of a session; the kernel has closed it on return.

        If the connection is lost, the service closes the path; a service that has ended does so at its next start.
        """
        self._paths.discard(path)
        await self._ask(ClosePath.of(path))

    async def _ask(self, request: OpenPath | ClosePath) -> str:
        """Return the problem in the service's answer; without an answer in time, the connection is closed."""
        writer = self._writer
        if writer is None:
            return "not connected to the firewall service"
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        writer.write(framed(request))
        try:
            async with asyncio.timeout(PATH_ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            writer.transport.abort()
            return f"the firewall service has not answered for {PATH_ANSWER_SECONDS:g} s"
        except asyncio.CancelledError:
            writer.transport.abort()  # the request may be executed later
            raise

    async def follow(self, on_event: Callable[[Event], None]) -> NoReturn:
        """Report each event to `on_event`, and an unknown state while the service cannot be reached."""
        loop = asyncio.get_running_loop()
        self._starting_until = loop.time() + CONFIRMED_SECONDS
        while True:
            try:
                await self._observe(on_event)
            except TimeoutError:
                problem = f"the firewall service has not answered for {CONFIRMED_SECONDS:g} s"
            except asyncio.IncompleteReadError:
                problem = "the firewall service has ended"
            except OSError as error:
                problem = f"the connection to the firewall service was lost: {error.strerror or error}"
            except FirewallProtocolError as error:
                problem = str(error)
            if loop.time() >= self._valid_until() and problem != self._problem:
                self._problem = problem
                on_event(FirewallState(in_force=False, problem=problem, is_known=False))
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _observe(self, on_event: Callable[[Event], None]) -> NoReturn:
        """Connect and receive until the connection fails.

        Raises: TimeoutError, IncompleteReadError, OSError, FirewallProtocolError.
        """
        async with self._connect() as (reader, writer):
            writer.write(framed(Hello()))
            self._writer = writer
            try:
                await self._receive(reader, on_event)
            finally:
                self._writer = None
                self._lose_paths(on_event)

    def _lose_paths(self, on_event: Callable[[Event], None]) -> None:
        reason = "the connection to the firewall service was lost"
        for answer in self._answers:
            if not answer.done():
                answer.set_result(reason)
        self._answers.clear()
        if self._paths:
            self._paths.clear()
            on_event(PathsLost(reason))

    async def _receive(self, reader: asyncio.StreamReader, on_event: Callable[[Event], None]) -> NoReturn:
        """Handle the service's messages until the connection fails.

        Raises: TimeoutError, IncompleteReadError, OSError, FirewallProtocolError.
        """
        loop = asyncio.get_running_loop()
        until = self._valid_until()
        while True:
            async with asyncio.timeout_at(until if until > loop.time() else loop.time() + CONFIRMED_SECONDS):
                answer = await _received(reader)
            if isinstance(answer, ConnectionRefusal):
                raise FirewallProtocolError(f"the firewall service refuses the connection: {answer.reason}")
            if isinstance(answer, PathAnswer):
                self._handle_path_answer(answer)
                continue
            if isinstance(answer, FirewallState):
                until = loop.time() + CONFIRMED_SECONDS
                if not answer.in_force and self._is_starting():
                    continue  # the service repeats it
                self._confirmed_at, self._problem = loop.time(), ""
            on_event(answer)

    def _handle_path_answer(self, answer: PathAnswer) -> None:
        """Pass the answer to the first waiting request. Raises: FirewallProtocolError if none waits."""
        if not self._answers:
            raise FirewallProtocolError("the firewall service has answered a request that was not made")
        waiting = self._answers.popleft()
        if not waiting.done():
            waiting.set_result(answer.problem)

    def _valid_until(self) -> float:
        """Return the loop's time at which the last confirmation, or the time to start, expires."""
        return self._starting_until if self._confirmed_at is None else self._confirmed_at + CONFIRMED_SECONDS

    def _is_starting(self) -> bool:
        return self._confirmed_at is None and asyncio.get_running_loop().time() < self._starting_until


async def _received(reader: asyncio.StreamReader) -> Answer:
    header = await reader.readexactly(LENGTH_BYTES)
    return decoded(await reader.readexactly(length(header, EVENT_BYTES_MAX)))


def at_socket(path: Path) -> Connect:
    """Return a function that connects to the service listening at `path`."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Streams]:
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError as error:
            remedy = "start rap-firewall.service, or `rap fw serve`"
            raise FirewallProtocolError(
                f"no firewall service answers at {path} ({error.strerror}); {remedy}"
            ) from error
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    return connected
