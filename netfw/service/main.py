# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""The firewall service: the box's only program that loads libnftables and has CAP_NET_ADMIN.

    python -m netfw.service serve --policy FILE --socket PATH [--user NAME]… [--ready FILE] [--retry SECONDS]
    python -m netfw.service attached FD --policy FILE [--retry SECONDS]
    python -m netfw.service once FD

`serve` keeps the policy in force, and reports to observers at the socket. `attached` does the same for a single
observer at the other end of FD. `once` answers the requests of `netfw.service.requests`.

An invalid policy at the start ends the service with exit status 2. SIGTERM ends it; the policy remains enforced.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import pwd
import signal
import socket
import sys
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Final

from hal.linux.ethernet import LinuxEthernetPort
from hal.unix_socket import Listener
from netfw.events import Event, FirewallState
from netfw.policy.policy import Policy
from netfw.policy.policyfile import files_of_policy, load_policy_with_board
from netfw.service import notify
from netfw.service.backend import KernelBackend
from netfw.service.request_handler import answer_requests
from netfw.service.server import FirewallServer
from netfw.service.supervisor import Supervisor
from netfw.service.trust import why_untrusted
from settings.problems import SettingsError

ENDED, FAILED, WRONG_INPUT, MACHINE_LACKS = 0, 1, 2, 3
RETRY_SECONDS: Final = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; exit statuses are as for `rap`."""
    arguments = make_parser().parse_args(argv)
    try:
        if arguments.mode == "once":
            answer_requests(socket.socket(fileno=arguments.descriptor))
        elif arguments.mode == "attached":
            # for the observer to handle; this process ends with it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            asyncio.run(_run_attached(arguments))
        else:
            return _serve(arguments)
    except SettingsError as error:
        return _fail(WRONG_INPUT, str(error))
    except OSError as error:
        location = f"{error.filename}: " if error.filename else ""
        return _fail(MACHINE_LACKS, f"{location}{error.strerror or error}")
    return ENDED


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the service's command line."""
    parser = argparse.ArgumentParser(prog="rap-firewall", description="The firewall service of a RAP box.")
    modes = parser.add_subparsers(dest="mode", required=True)
    serve, attached, once = (modes.add_parser(mode) for mode in ("serve", "attached", "once"))
    for mode in (attached, once):
        mode.add_argument("descriptor", type=int, help="descriptor of a connected Unix socket")
    for mode in (serve, attached):
        mode.add_argument("--policy", metavar="FILE", type=Path, required=True, help="TOML file")
        mode.add_argument("--retry", metavar="SECONDS", type=float, default=RETRY_SECONDS)
    serve.add_argument("--socket", metavar="PATH", type=Path, required=True, help="socket for observers")
    serve.add_argument(
        "--user",
        metavar="NAME",
        action="append",
        default=[],
        help="user of the box program, who may observe, as root may, and open paths of sessions; default: this one",
    )
    serve.add_argument(
        "--ready",
        metavar="FILE",
        type=Path,
        help="file to create once the policy is in force for the first time",
    )
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    path_users, group = set[int](), -1
    for name in arguments.user:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            return _fail(WRONG_INPUT, f"--user {name}: unknown user")
        path_users.add(user.pw_uid)
        group = user.pw_gid if os.geteuid() == 0 else -1
    for file in files_of_policy(arguments.policy):
        if reason := why_untrusted(file):
            return _fail(WRONG_INPUT, f"{arguments.policy}: other users could change the policy: {reason}")
    asyncio.run(_run_server(arguments, path_users or {os.geteuid()}, group))
    return ENDED


async def _run_server(arguments: argparse.Namespace, path_users: set[int], group: int) -> None:
    loop, supervisor = asyncio.get_running_loop(), _supervisor(arguments)
    server = FirewallServer({0, os.geteuid(), *path_users}, _log, supervisor, path_users)
    ready = _Readiness(arguments.policy, arguments.ready)
    arguments.socket.parent.mkdir(mode=0o755, exist_ok=True)
    listener = Listener(arguments.socket, 0o660, group)
    try:
        accepting = await loop.create_unix_server(server.connected, sock=listener.socket)
        _log(f"keeps {arguments.policy} in force; observers connect at {arguments.socket}")

        def on_event(event: Event) -> None:
            server.publish(event)
            ready.take(event)

        async with accepting:
            await _run_supervisor(supervisor, server, on_event, asyncio.Event())
    finally:
        listener.close()


async def _run_attached(arguments: argparse.Namespace) -> None:
    ended = asyncio.Event()
    supervisor = _supervisor(arguments)
    server = FirewallServer(None, _log, supervisor, lost=ended.set)
    own = socket.socket(fileno=arguments.descriptor)
    await asyncio.get_running_loop().connect_accepted_socket(server.connected, own)
    await _run_supervisor(supervisor, server, server.publish, ended)


async def _run_supervisor(
    supervisor: Supervisor, server: FirewallServer, on_event: Any, ended: asyncio.Event
) -> None:
    """Keep the policy in force until SIGTERM, or until `ended` is set."""
    loop = asyncio.get_running_loop()

    def failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Close the ports after an exception in a callback, such as the watch's, which may have missed a change."""
        loop.default_exception_handler(context)
        supervisor.fail(f"internal error: {context.get('exception') or context['message']!r}")

    loop.set_exception_handler(failed)
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, ended.set)
    try:
        await _first_ended(supervisor.follow(on_event), server.beat(notify.alive), ended.wait())
    except Exception as error:
        supervisor.fail(f"internal error: {error!r}")  # closes the ports before the program ends
        raise


async def _first_ended(*awaitables: Awaitable[Any]) -> None:
    """Run all until one ends, and raise its exception if it has one."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _supervisor(arguments: argparse.Namespace) -> Supervisor:
    """Create the supervisor of the policy and its board. Raises: SettingsError."""
    policy, board = load_policy_with_board(arguments.policy)

    def policy_now() -> Policy | None:
        """Return the file's current policy; None if it is invalid, for another board, or not trusted."""
        with contextlib.suppress(SettingsError, OSError):
            newer, its_board = load_policy_with_board(arguments.policy)
            trusted = arguments.mode != "serve" or not any(
                map(why_untrusted, files_of_policy(arguments.policy))
            )
            if its_board == board and trusted:
                return newer
        return None

    ports = {n: LinuxEthernetPort(f"port{n}", name) for n, name in board.instrument_ports.items()}
    return Supervisor(KernelBackend(policy, policy_now), ports, arguments.retry)


class _Readiness:
    """Notifies systemd, and others by a file, that the policy is in force."""

    def __init__(self, policy: Path, file: Path | None) -> None:
        self._policy, self._file, self._is_ready = policy, file, False

    def take(self, event: Event) -> None:
        """Handle an event; the first FirewallState with the policy in force triggers the notification."""
        if isinstance(event, FirewallState) and event.in_force and not self._is_ready:
            self._is_ready = True
            _log(f"{self._policy}: in force")
            if self._file is not None:
                self._file.touch()
            notify.ready()


def _log(message: str) -> None:
    print(f"rap: {message}", file=sys.stderr, flush=True)  # noqa: T201 - the program's own log


def _fail(status: int, reason: str) -> int:
    _log(reason)
    return status
