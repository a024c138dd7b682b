"""Requests to a running lab from another process: one JSON object in each direction over the supervisor's socket.

The supervisor closes the connections of all users but root.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

from sim.worlds.kernel.namespaces import syscalls
from sim.worlds.kernel.supervision.registry import connect, supervisor_of

Request: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[Request], Awaitable[object]]

ANSWER_SECONDS_MAX: Final = 400.0
"""The timeout of a request: longer than the evaluation of the lab, the longest request, may take."""
_BYTES_MAX: Final = 65536
_ENTER: Final = "enter-host"
_FROM_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTTOU)


class RequestRefused(Exception):
    """The lab cannot execute a request; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class SocketAnswer:
    """An answer that passes a socket to the requesting process; the lab's own descriptor is closed afterwards."""

    socket: socket.socket


def ask(name: str, request: Request) -> Any:
    """Send a request to a lab; returns its answer. Raises: NoSuchLab, RequestRefused."""
    with connect(name) as connection:
        answer, _ = _exchange(connection, request)
    return answer


def ask_for_socket(name: str, request: Request) -> socket.socket:
    """Send a request that is answered with a socket (`SocketAnswer`). Raises: NoSuchLab, RequestRefused."""
    with connect(name) as connection:
        _, (descriptor,) = _exchange(connection, request)
    return socket.socket(fileno=descriptor)


def call_in_host(name: str, host: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run a program in a host of a running lab on this terminal; returns its exit status as a shell does.

    While it runs, the caller ignores Ctrl-C and Ctrl-\\; afterwards the caller has the terminal again. `env` is added
    to the caller's environment. Raises: NoSuchLab, RequestRefused.
    """
    with ExitStack() as opened:  # an open namespace descriptor would keep the lab's mounts and disks alive
        supervisor = supervisor_of(name)
        opened.callback(os.close, supervisor)
        with connect(name) as connection:
            _, namespaces = _exchange(connection, {_ENTER: host})
        for namespace in namespaces:
            opened.callback(os.close, namespace)
        with _terminal_lent():
            pid = os.fork()
            if pid == 0:
                _enter_and_run(supervisor, namespaces, argv, {**os.environ, **(env or {})})
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def _terminal_lent() -> Iterator[None]:
    """Ignore the terminal's signals, as system(3) does, and take the terminal back on exit.

    An interactive shell makes its own process group the foreground group. When it exits, it cannot restore the
    previous one, which has no ID in the lab's PID namespace.
    """
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in _FROM_TERMINAL}
    try:
        yield
    finally:
        with suppress(OSError):  # there is no terminal, or it has hung up
            os.tcsetpgrp(0, os.getpgrp())
        for number, handler in previous.items():
            signal.signal(number, handler)


def _enter_and_run(
    supervisor: int, namespaces: Sequence[int], argv: Sequence[str], env: Mapping[str, str]
) -> NoReturn:
    """Enter the lab's namespaces, run the program as a child there, and exit with its exit status."""
    status = 127
    try:
        syscalls.enter(supervisor, syscalls.NEW_PIDS)
        for namespace in namespaces:
            syscalls.enter(namespace)
        ended = os.waitstatus_to_exitcode(os.waitpid(_spawn(argv, env), 0)[1])
        status = ended if ended >= 0 else 128 - ended
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(status)


def _spawn(argv: Sequence[str], env: Mapping[str, str]) -> int:
    signals = (*_FROM_TERMINAL, signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores the last two
    return os.posix_spawnp(argv[0], list(argv), env, setsigdef=signals)


def _exchange(connection: socket.socket, request: Request) -> tuple[Any, list[int]]:
    connection.settimeout(ANSWER_SECONDS_MAX)
    try:
        return _send_and_receive(connection, request)
    except TimeoutError:
        raise RequestRefused(
            f"the lab did not answer within {ANSWER_SECONDS_MAX:.0f} s; end it with `rap lab down`"
        ) from None


def _send_and_receive(connection: socket.socket, request: Request) -> tuple[Any, list[int]]:
    connection.sendall(json.dumps(request).encode())
    connection.shutdown(socket.SHUT_WR)
    data, descriptors, _, _ = socket.recv_fds(connection, _BYTES_MAX, 8)
    while more := connection.recv(_BYTES_MAX):
        data += more
    if not data:
        raise RequestRefused("the lab ended, or refused the connection: only root may send requests")
    answer = json.loads(data)
    if "error" in answer:
        raise RequestRefused(answer["error"])
    return answer["answer"], descriptors


class SupervisorControl:
    """Answers requests on the supervisor's socket, in the event loop."""

    def __init__(self, listener: socket.socket, namespaces: Callable[[str], Mapping[str, int]]) -> None:
        self.handler: Handler = _unknown
        """Executes all requests except those to enter a host. Raises: RequestRefused."""
        self._namespaces = namespaces
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = listener
        listener.setblocking(False)
        asyncio.get_running_loop().add_reader(listener, self._accept)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection:
            if not _from_root(connection):
                return
            data = b""
            while (more := await loop.sock_recv(connection, _BYTES_MAX)) and len(data) < _BYTES_MAX:
                data += more
            if not data:
                return
            with ExitStack() as handed:
                try:
                    answer, descriptors = await self._answer(json.loads(data), handed)
                except RequestRefused as error:
                    answer, descriptors = {"error": str(error)}, []
                except Exception as error:  # a bug: answer the waiting process, and keep the lab running
                    answer, descriptors = {"error": f"the lab failed to execute the request: {error!r}"}, []
                encoded = json.dumps(answer).encode()
                with suppress(BrokenPipeError):  # the requesting process has ended
                    if descriptors:
                        socket.send_fds(connection, [encoded], descriptors)
                    else:
                        await loop.sock_sendall(connection, encoded)

    async def _answer(self, request: Request, handed: ExitStack) -> tuple[Request, list[int]]:
        if _ENTER in request:
            namespaces = self._namespaces(request[_ENTER])
            return {"answer": None}, [namespaces["net"], namespaces["uts"], namespaces["mnt"]]
        answer = await self.handler(request)
        if isinstance(answer, SocketAnswer):
            return {"answer": None}, [handed.enter_context(answer.socket).fileno()]
        return {"answer": answer}, []


def _from_root(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == 0)


async def _unknown(request: Request) -> object:
    raise RequestRefused(f"this lab does not support the request {request}")
