# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Requests of `rap fw` to the service process that it starts, and the replies.

The service has the privileges of the user who started it and no others, so that it may accept any request. Messages
are framed as in `netfw.service.protocol`. Policies are given by the paths of their files.
"""

from __future__ import annotations

import socket
import subprocess
from types import TracebackType
from typing import Any, Final, NoReturn, TypeAlias

import msgspec
from msgspec import Struct

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.events import Alarm, Repair
from netfw.service.protocol import LENGTH_BYTES, FirewallProtocolError, framed, length
from netfw.service.spawn import END_SECONDS, start

MESSAGE_BYTES_MAX: Final = 256 * 1024 * 1024
"""The listing of the largest policy has some 20 MB."""


class Probe(Struct, frozen=True, tag="probe"):
    """Check whether libnftables can be loaded. Reply: Done."""


class Apply(Struct, frozen=True, tag="apply"):
    """Put a policy in force. Reply: Done."""

    policy: str


class Check(Struct, frozen=True, tag="check"):
    """Compare a policy with the kernel. Reply: Checked."""

    policy: str


class CountRequest(Struct, frozen=True, tag="count"):
    """Get the counts of refused packets. Reply: Checked, without differences and sessions."""


class List(Struct, frozen=True, tag="list"):
    """List the table. Reply: Listed."""


class Try(Struct, frozen=True, tag="try"):
    """Put a policy in force on trial. Reply: Done; then TrialEnded when the trial ends."""

    policy: str
    seconds: int


class Keep(Struct, frozen=True, tag="keep"):
    """Keep the policy on trial. Reply: TrialEnded."""


class Revert(Struct, frozen=True, tag="revert"):
    """Restore the table that was in force before the trial. Reply: TrialEnded."""


class WatchRequest(Struct, frozen=True, tag="watch"):
    """Watch a policy until Stop, or until the connection ends.

    Reply: Done; then Alarm, Repair and Followed as they occur.
    """

    policy: str


class Stop(Struct, frozen=True, tag="stop"):
    """Stop watching. Reply: Stopped."""


class Stopped(Struct, frozen=True, tag="stopped"):
    """The watch has ended; `in_force` is whether the policy was in force then."""

    in_force: bool


class Done(Struct, frozen=True, tag="done"):
    """The request was carried out."""


class Checked(Struct, frozen=True, tag="checked"):
    """Differences between kernel and policy, refused (packets, bytes) by cause, and the number of open sessions."""

    differences: list[str]
    refused: dict[str, tuple[int, int]]
    sessions: int


class Listed(Struct, frozen=True, tag="listed"):
    """The objects of the table; None if there is no table."""

    objects: list[Any] | None


class TrialEnded(Struct, frozen=True, tag="trial-ended"):
    """The trial has ended: the policy was kept, or the previous table was restored, or both failed."""

    kept: bool
    reverted: bool


class Followed(Struct, frozen=True, tag="followed"):
    """The policy file was applied again, and its new content is watched."""


class RequestFailed(Struct, frozen=True, tag="failed"):
    """The request failed with this FirewallError."""

    kind: FirewallErrorKind
    message: str


Request: TypeAlias = Probe | Apply | Check | CountRequest | List | Try | Keep | Revert | WatchRequest | Stop
Reply: TypeAlias = Done | Checked | Listed | TrialEnded | Followed | Stopped | RequestFailed | Alarm | Repair

REQUESTS: Final = msgspec.msgpack.Decoder(Request)
_REPLIES: Final = msgspec.msgpack.Decoder(Reply)


def receive(connection: socket.socket, bytes_max: int) -> bytes:
    """Receive the next message. Raises: EOFError at the end; OSError; FirewallProtocolError."""
    return _exactly(connection, length(_exactly(connection, LENGTH_BYTES), bytes_max))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)


class FirewallProcess:
    """A service process for one program. It ends with this object's context."""

    def __init__(self) -> None:
        """Start the process in the network namespace of the calling thread. Raises: FirewallError."""
        try:
            self._process, self.connection = start("once")
        except OSError as error:
            raise FirewallError(
                FirewallErrorKind.LACKING, f"the firewall service cannot be started: {error.strerror}"
            ) from error

    def __enter__(self) -> FirewallProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, request: Request) -> Reply:
        """Send a request and return the reply. Raises: FirewallError."""
        try:
            self.connection.sendall(framed(request))
        except OSError:
            self._end()
        return self.next()

    def next(self) -> Reply:
        """Return the next message. Raises: FirewallError."""
        try:
            reply: Reply = _REPLIES.decode(receive(self.connection, MESSAGE_BYTES_MAX))
        except (EOFError, OSError, FirewallProtocolError, msgspec.DecodeError):
            self._end()
        if isinstance(reply, RequestFailed):
            raise FirewallError(reply.kind, reply.message)
        return reply

    def _end(self) -> NoReturn:
        self._process.kill()
        status = self._process.wait()
        raise FirewallError(
            FirewallErrorKind.LACKING, f"the firewall service ended unexpectedly, with exit status {status}"
        )
