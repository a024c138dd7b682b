"""The supervisor: process 1 of a lab, whose end is the end of the lab.

`fork` after `unshare(CLONE_NEWPID)` makes a process that is pid 1 of a PID namespace of its own. When it ends,
by whatever, the kernel kills every process of that namespace (pid_namespaces(7)), and with the last of them go
the mount and network namespaces and all that was in them. Its parent's death kills it too, if it was started by
`run` (PR_SET_PDEATHSIG).

A running lab is known by a socket `@rap-lab/NAME` in the machine's abstract UNIX namespace (unix(7)), which is
bound before the network is unshared and vanishes with the process. Two labs cannot have the same name at once.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from sim.worlds.kernel import files, syscalls
from sim.worlds.kernel.lab import KernelLab

T = TypeVar("T")
Main: TypeAlias = Callable[[KernelLab], Awaitable[T]]

_PREFIX: Final = "@rap-lab/"
_NAME_MAX: Final = 64
_UP: Final = b"up"


class LabExists(Exception):
    """A lab of that name is running."""


class LabEnded(Exception):
    """The lab ended before it said what came of it: somebody killed it, or it ran out of memory."""


def run(name: str, main: Main[T], *, writable: Sequence[Path] = ()) -> T:
    """Run `main` in a lab of its own; return what it returns, raise what it raises.

    What it returns must be picklable. The lab ends with `main`, and with the caller, even if that is killed.
    Its file system is read-only but for /run and /tmp, which are its own, and the folders `writable`. Not to be
    called in a running event loop.

    Raises LabExists, LabEnded, and ValueError for a name that cannot be one.
    """
    supervisor, answers = _start(name, main, writable, daemon=False)
    try:
        result: T = _result(name, _read(answers))
        return result
    finally:
        _end(supervisor)
        os.close(answers)


def up(name: str, main: Main[None], *, writable: Sequence[Path] = ()) -> None:
    """Start a lab that stays: return once `main` called `lab.is_up()`, which then goes on without the caller.

    Raises what `main` raises before that, and what `run` raises.
    """
    supervisor, answers = _start(name, main, writable, daemon=True)
    try:
        answer = _read(answers, len(_UP))
        if answer != _UP:
            _result(name, answer + _read(answers))
            raise LabEnded(f"the lab {name!r} ended before it was up")
    except BaseException:
        _end(supervisor)
        raise
    finally:
        os.close(answers)
    os.close(supervisor)


def running() -> list[str]:
    """The names of the labs that run on this machine, sorted."""
    bound = (line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines())
    return sorted({path.removeprefix(_PREFIX) for path in bound if path.startswith(_PREFIX)})


def down(name: str) -> bool:
    """End that lab; when this returns it is gone. False if there was none."""
    supervisor = supervisor_of(name)
    if supervisor is None:
        return False
    _end(supervisor)
    return True


def supervisor_of(name: str) -> int | None:
    """A pidfd of the supervisor of the lab of that name; None if there is no such lab."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(_address(name))
        except ConnectionRefusedError:
            return None
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", credentials)
        return os.pidfd_open(pid)


def _address(name: str) -> str:
    if (
        not name
        or len(name) > _NAME_MAX
        or not name.isascii()
        or not all(c.isalnum() or c in "-_." for c in name)
    ):
        raise ValueError(
            f"{name!r} cannot name a lab: use up to {_NAME_MAX} letters, digits, '-', '_' and '.'"
        )
    return _PREFIX.replace("@", "\0") + name


def _listen(name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(_address(name))
    except OSError:
        listener.close()
        raise LabExists(f"a lab named {name!r} is running; end it with `rap lab down {name}`") from None
    return listener


def _start(name: str, main: Main[T], writable: Sequence[Path], *, daemon: bool) -> tuple[int, int]:
    """A pidfd of the supervisor, and the file descriptor from which its answer can be read."""
    with _listen(name) as listener:
        caller = os.pidfd_open(os.getpid())
        answers, answer = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            pid = _fork_first_process()
            if pid == 0:
                os.close(answers)
                _supervise(name, main, writable, listener, answer, None if daemon else caller)
            return os.pidfd_open(pid), answers
        finally:
            os.close(caller)
            os.close(answer)


def _fork_first_process() -> int:
    """fork(2) into a new PID namespace; the caller's later children are born in its own again."""
    own = syscalls.namespace("pid_for_children")
    pid = -1
    try:
        syscalls.unshare(syscalls.NEW_PIDS)
        pid = os.fork()
        return pid
    finally:
        if pid:
            syscalls.enter(own)
        os.close(own)


def _supervise(
    name: str,
    main: Main[T],
    writable: Sequence[Path],
    listener: socket.socket,
    answer: int,
    caller: int | None,
) -> NoReturn:
    """What process 1 does, from the fork to its end; it never comes back to the code of the caller.

    All it has to do is to collect the orphans of the lab's programs, and to end with the process that does the work.
    """
    try:
        if caller is not None:
            _die_with(caller)
        os.setsid()
        listener.listen()
        worker = os.fork()
        if worker == 0:
            _work(name, main, writable, answer)
        while os.wait()[0] != worker:
            pass
    finally:
        os._exit(0)


def _work(name: str, main: Main[T], writable: Sequence[Path], answer: int) -> NoReturn:
    try:
        syscalls.unshare(syscalls.NEW_MOUNTS | syscalls.NEW_NET | syscalls.NEW_UTS | syscalls.NEW_IPC)
        files.furnish_lab(writable)
        socket.sethostname(name)
        _answer(answer, (True, asyncio.run(_live(name, main, answer))))
    except BaseException as error:
        _answer(answer, (False, error))
    finally:
        os._exit(0)


async def _live(name: str, main: Main[T], answer: int) -> T:
    return await main(KernelLab(name, lambda: _leave_caller(answer)))


def _die_with(caller: int) -> None:
    """Be killed when the caller ends, which may have happened already."""
    syscalls.die_with_parent(signal.SIGKILL)
    if select.select([caller], [], [], 0)[0]:
        os._exit(0)


def _leave_caller(answer: int) -> None:
    """Tell the caller of `up` that the lab is up, and keep nothing that is the caller's."""
    os.write(answer, _UP)
    os.close(answer)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(files.FOLDER / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, file in ((0, nothing), (1, log), (2, log)):
        os.dup2(file, descriptor)


def _answer(answer: int, outcome: tuple[bool, object]) -> None:
    succeeded, value = outcome
    if isinstance(value, BaseException):
        traceback.print_exception(value, file=sys.stderr)
    try:
        data = pickle.dumps((succeeded, value))
        pickle.loads(data)  # noqa: S301
    except Exception as error:  # whatever its __reduce__ may raise
        data = pickle.dumps((False, TypeError(f"cannot be pickled: {value!r}: {error!r}")))
    with suppress(OSError), open(answer, "wb", closefd=False) as stream:
        stream.write(data)


def _result(name: str, answer: bytes) -> Any:
    if not answer:
        raise LabEnded(f"the lab {name!r} ended before its time; was it killed?")
    succeeded, value = pickle.loads(answer)  # noqa: S301
    if succeeded:
        return value
    raise value


def _read(answers: int, count: int = -1) -> bytes:
    with open(answers, "rb", closefd=False, buffering=0) as stream:
        return stream.read(count)


def _end(supervisor: int) -> None:
    """Kill the supervisor and wait until it is gone, and with it every process of its lab."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(supervisor, signal.SIGKILL)
    select.select([supervisor], [], [])
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, supervisor, os.WEXITED)
    os.close(supervisor)
