# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Answers the requests of one program (`netfw.service.requests`) until it closes the connection."""

from __future__ import annotations

import asyncio
import contextlib
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.kernel.trial import Trial
from netfw.policy.policy import Policy
from netfw.policy.policyfile import load_policy
from netfw.service.protocol import EVENT_BYTES_MAX, framed
from netfw.service.requests import (
    REQUESTS,
    Apply,
    Check,
    Checked,
    CountRequest,
    Done,
    Followed,
    Keep,
    List,
    Listed,
    Probe,
    Request,
    RequestFailed,
    Revert,
    Stop,
    Stopped,
    TrialEnded,
    Try,
    WatchRequest,
    receive,
)
from netfw.service.supervisor import INSPECTION_SECONDS
from netfw.watch.watch import Watch as TableWatch
from settings.problems import SettingsError

_NOTHING_IN_PROGRESS: Final = "no trial or watch is in progress"


def answer_requests(connection: socket.socket) -> None:
    """Answer until the connection ends; ignore signals from the terminal, which the requesting program handles."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with connection, contextlib.suppress(EOFError, ConnectionError):
        while True:
            request = REQUESTS.decode(receive(connection, EVENT_BYTES_MAX))
            try:
                _answer(connection, request)
            except FirewallError as error:
                _send(connection, RequestFailed(error.kind, str(error)))
            except SettingsError as error:
                _send(connection, RequestFailed(FirewallErrorKind.UNFIT, str(error)))


def _answer(connection: socket.socket, request: Request) -> None:
    match request:
        case Probe():
            Nft().close()
            _send(connection, Done())
        case Apply(policy):
            Firewall(Nft()).apply(_load(policy))
            _send(connection, Done())
        case Check(policy):
            _send(connection, _checked(_load(policy)))
        case CountRequest():
            _send(connection, Checked([], _counts(Firewall(Nft())), 0))
        case List():
            _send(connection, Listed(Nft().table()))
        case Try(policy, seconds):
            _run_trial(connection, Trial(Nft(), _load(policy), seconds))
        case WatchRequest(policy):
            asyncio.run(_watch_policy(connection, Path(policy)))
        case Keep() | Revert() | Stop():
            raise FirewallError(FirewallErrorKind.UNFIT, _NOTHING_IN_PROGRESS)


def _load(policy: str) -> Policy:
    return load_policy(Path(policy))


def _checked(policy: Policy) -> Checked:
    nft = Nft()
    firewall = Firewall(nft)
    differences, counts = firewall.differences(policy), _counts(firewall)
    return Checked(differences, counts, len(Sessions(nft, policy).list()))


def _counts(firewall: Firewall) -> dict[str, tuple[int, int]]:
    return {cause: (count.packets, count.bytes) for cause, count in firewall.counts().items()}


def _run_trial(connection: socket.socket, trial: Trial) -> None:
    """Handle requests until the trial has ended; if the program ends before, the trial's guardian reverts it."""
    _send(connection, Done())
    readable, _, _ = select.select([connection.fileno(), trial.fileno()], [], [])
    if trial.fileno() in readable:
        _send(connection, TrialEnded(kept=False, reverted=trial.revert()))
        return
    request = REQUESTS.decode(receive(connection, EVENT_BYTES_MAX))
    if isinstance(request, Keep) and trial.keep():
        _send(connection, TrialEnded(kept=True, reverted=False))
    else:
        _send(connection, TrialEnded(kept=False, reverted=trial.revert()))


async def _watch_policy(connection: socket.socket, file: Path) -> None:
    firewall, ended, loop = Firewall(Nft()), asyncio.Event(), asyncio.get_running_loop()
    early_events: list[Struct] = []

    def newer(mark: str) -> Policy | None:
        """Return the file's current policy if it was put in force."""
        with contextlib.suppress(SettingsError):
            if firewall.mark_of(applied := load_policy(file)) == mark:
                deliver(Followed())
                return applied
        return None

    def send(event: Struct) -> None:
        with contextlib.suppress(OSError):  # the end of the connection is detected by the reader below
            _send(connection, event)

    deliver: Callable[[Struct], None] = early_events.append  # until the start itself has been answered
    watch = TableWatch(firewall, load_policy(file), lambda event: deliver(event), newer=newer)  # noqa: PLW0108 - bound late
    watch.start()
    deliver = send
    for event in (Done(), *early_events):
        send(event)
    loop.add_reader(connection, ended.set)  # Stop, or the end of the connection
    in_force = True
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), INSPECTION_SECONDS)
        in_force = watch.check()  # also detects changes without a message, and retries failed repairs
    loop.remove_reader(connection)
    watch.stop()
    receive(connection, EVENT_BYTES_MAX)
    send(Stopped(in_force))


def _send(connection: socket.socket, message: Struct) -> None:
    connection.sendall(framed(message))
