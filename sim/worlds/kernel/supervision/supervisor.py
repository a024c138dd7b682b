"""The supervisor: process 1 of a lab, whose end is the end of the lab.

`fork` after `unshare(CLONE_NEWPID)` creates a process that is pid 1 of a new PID namespace. When it ends for any
reason, the kernel kills all processes of that namespace (pid_namespaces(7)), and with the last of them removes the
mount and network namespaces and their contents. A supervisor started by `run` is also killed when its parent ends
(PR_SET_PDEATHSIG).

Process 1 only reaps the orphans of the lab's programs; its child, the worker, runs the lab's code.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from sim.engine.stalls import Stalled
from sim.worlds.kernel.namespaces import files, syscalls
from sim.worlds.kernel.supervision.answer import LabEnded, SupervisorAnswer, receive
from sim.worlds.kernel.supervision.lab import KernelLab
from sim.worlds.kernel.supervision.real_time import HostLoop
from sim.worlds.kernel.supervision.registry import supervisor_of, take_name

T = TypeVar("T")


_Folders: TypeAlias = tuple[Sequence[Path], Sequence[Path]]
"""The folders of the machine that a lab can write to, and those that it can read in any case."""
END_SECONDS_MAX: Final = 60.0
"""How long the kernel may take to end a lab's processes; normally it takes milliseconds."""


def run(
    name: str,
    main: Callable[[KernelLab], Awaitable[T]],
    *,
    writable: Sequence[Path] = (),
    readable: Sequence[Path] = (),
    seconds_max: float | None = None,
) -> T:
    """Run `main` in a new lab; returns its return value, which must be picklable.

    The lab ends with `main`, and with the calling process, even if that is killed. Its file system is read-only
    except for its own /run, /tmp, /var/tmp and /dev/shm and the folders `writable`; the folders `readable` are
    visible even below these.
    The call blocks the caller's thread, and its event loop.

    Raises: the exception of `main`; LabExists; LabEnded; ValueError for an invalid name; Stalled if there is no
    answer within `seconds_max`, after which the lab is killed.
    """
    supervisor, pipe = _start(name, main, (writable, readable), keeps_running=False)
    try:
        result: T = receive(name, pipe, seconds_max)
        return result
    except LabEnded as error:
        raise LabEnded(f"{error}{_cause(supervisor)}") from None
    finally:
        os.close(pipe)
        _end(supervisor)


def up(
    name: str,
    main: Callable[[KernelLab], Awaitable[None]],
    *,
    writable: Sequence[Path] = (),
    readable: Sequence[Path] = (),
    seconds_max: float | None = None,
) -> None:
    """Start a lab that keeps running, and return when `main` has called `lab.is_up()`; it then runs without the
    caller.

    From then on its output goes to /run/lab/supervisor.log in the lab. Raises: as `run`, until the lab is up.
    """
    supervisor, pipe = _start(name, main, (writable, readable), keeps_running=True)
    try:
        if receive(name, pipe, seconds_max) is not True:
            raise LabEnded(f"the lab {name!r} ended before it was up")
    except LabEnded as error:
        cause = _cause(supervisor)
        _end(supervisor)
        raise LabEnded(f"{error}{cause}") from None
    except BaseException:
        _end(supervisor)
        raise
    finally:
        os.close(pipe)
    os.close(supervisor)


def down(name: str) -> None:
    """End the lab `name`, and wait until all its processes have ended. Raises: NoSuchLab, Stalled."""
    _end(supervisor_of(name))


@dataclass(frozen=True, slots=True)
class _Parameters:
    """The parameters of a new supervisor."""

    name: str
    main: Callable[[KernelLab], Awaitable[Any]]
    folders: _Folders
    holder: socket.socket
    answer: int
    caller: int | None
    """A pidfd of the process that it must not outlive; None for a lab that keeps running."""


def _start(
    name: str, main: Callable[[KernelLab], Awaitable[Any]], folders: _Folders, *, keeps_running: bool
) -> tuple[int, int]:
    """Start a supervisor; returns its pidfd, and the pipe for its answer."""
    with take_name(name) as holder:
        caller = os.pidfd_open(os.getpid())
        pipe, answer = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            pid = _fork_first_process()
            if pid == 0:
                _supervise(
                    _Parameters(name, main, folders, holder, answer, None if keeps_running else caller)
                )
            return os.pidfd_open(pid), pipe
        finally:
            os.close(caller)
            os.close(answer)


def _fork_first_process() -> int:
    """fork(2) into a new PID namespace; later children of the caller are in its own namespace again."""
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


def _supervise(parameters: _Parameters) -> NoReturn:
    """Run process 1 from the fork to its end; never returns to the code of the caller.

    If a signal has killed the worker, the exit status is 128 plus the signal's number, as in a shell.
    """
    status = 0
    try:
        if parameters.caller is not None:
            _die_with(parameters.caller)
        os.setsid()
        _close_all_but(0, 1, 2, parameters.holder.fileno(), parameters.answer)
        parameters.holder.listen()
        worker = os.fork()
        if worker == 0:
            _work(parameters)
        _close_all_but()
        while (ended := os.wait())[0] != worker:
            pass
        status = 128 + os.WTERMSIG(ended[1]) if os.WIFSIGNALED(ended[1]) else 0
    except BaseException as error:
        SupervisorAnswer(parameters.answer).error(error)
    finally:
        os._exit(status)


def _die_with(caller: int) -> None:
    """Make the kernel kill this process when the caller ends; exit if it has already ended."""
    syscalls.die_with_parent(signal.SIGKILL)
    if select.select([caller], [], [], 0)[0]:
        os._exit(0)


def _close_all_but(*preserved: int) -> None:
    """Close all inherited descriptors except `preserved`: a reader may wait for the end of an inherited pipe."""
    gc.freeze()  # otherwise collecting an object of the caller could later close a descriptor of the same number
    edges = [-1, *sorted(preserved), os.sysconf("SC_OPEN_MAX")]
    for below, above in pairwise(edges):
        if below + 1 < above:  # closerange(0, 0) closes everything
            os.closerange(below + 1, above)


def _work(parameters: _Parameters) -> NoReturn:
    answer = SupervisorAnswer(parameters.answer)
    faulthandler.enable(2)  # a test runner's file for this is closed here
    try:
        syscalls.unshare(syscalls.NEW_MOUNTS | syscalls.NEW_NET | syscalls.NEW_UTS | syscalls.NEW_IPC)
        files.mount_lab_files(*parameters.folders)
        socket.sethostname(parameters.name)
        asyncio._set_running_loop(None)  # detach from the event loop of the caller, if it has one
        with asyncio.Runner(loop_factory=HostLoop) as runner:
            answer.value(runner.run(_live(parameters, answer)))
    except BaseException as error:
        answer.error(error)
    finally:
        os._exit(0)


async def _live(parameters: _Parameters, answer: SupervisorAnswer) -> object:
    def is_up() -> None:
        if parameters.caller is None:
            answer.up()
            _leave_terminal()

    def expired(why: Stalled) -> NoReturn:
        answer.error(why)
        os._exit(0)

    return await parameters.main(KernelLab(parameters.name, parameters.holder, is_up, expired))


def _leave_terminal() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(files.FOLDER / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, file in ((0, null), (1, log), (2, log)):
        os.dup2(file, descriptor)


def _cause(supervisor: int) -> str:
    """Return the signal that ended a lab, for a message; empty if it is unknown."""
    if not select.select([supervisor], [], [], END_SECONDS_MAX)[0]:
        return ""
    ended = os.waitid(os.P_PIDFD, supervisor, os.WEXITED | os.WNOWAIT)
    number = 0 if ended is None else ended.si_status
    if ended is not None and ended.si_code == os.CLD_EXITED:
        number -= 128
    return f": killed by {signal.Signals(number).name}" if number > 0 else ""


def _end(supervisor: int) -> None:
    """Kill the supervisor, and wait until it and every process of its lab have ended."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(supervisor, signal.SIGKILL)
    try:
        if not select.select([supervisor], [], [], END_SECONDS_MAX)[0]:
            raise Stalled(
                f"a process of the lab did not end within {END_SECONDS_MAX:.0f} s of SIGKILL: it waits in a system "
                "call, probably for a disk; `ps -eo pid,stat,wchan:32,args` shows it in state D"
            )
        with suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, supervisor, os.WEXITED)
    finally:
        os.close(supervisor)
