# SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
"""Starts the firewall service as a child process, which keeps libnftables out of the parent."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from netfw.service.client import Connect, Streams

END_SECONDS: Final = 5.0
"""How long a child may take to end after its connection was closed."""
_POLL_SECONDS: Final = 0.02


def command(*arguments: str) -> list[str]:
    """Return the service's command line. `-P` excludes modules from the working directory, which may be untrusted."""
    flags = [flag for flag, is_set in (("-S", sys.flags.no_site), ("-s", sys.flags.no_user_site)) if is_set]
    return [sys.executable, "-P", *flags, "-m", "netfw.service", *arguments]


def environment() -> dict[str, str]:
    """Return an environment with this process's module path, which differs in a packaged program."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in sys.path if path))}


def start(mode: str, *arguments: str) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a child with one end of a connection; return it and the other end, whose closing ends it.

    Raises: OSError.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = theirs.fileno()
        process = subprocess.Popen(
            command(mode, str(descriptor), *arguments),
            env=environment(),
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
        )
    return process, ours


def as_child(policy: Path, retry_s: float) -> Connect:
    """Return a function that starts a service process for this policy and connects to it."""

    @asynccontextmanager
    async def connected() -> AsyncIterator[Streams]:
        arguments: Sequence[str] = ("--policy", str(policy), "--retry", str(retry_s))
        process, ours = start("attached", *arguments)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            await _ended(process)

    return connected


async def _ended(process: subprocess.Popen[bytes]) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + END_SECONDS
    try:
        while process.poll() is None and loop.time() < until:  # noqa: ASYNC110 - there is no event for a process
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
