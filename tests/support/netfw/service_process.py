"""The firewall service as a process, and a client that waits for each answer."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from netfw.service.protocol import (
    Answer,
    ConnectionRefusal,
    FirewallProtocolError,
    Hello,
    PathAnswer,
    PathRequest,
    decoded,
    framed,
)
from netfw.service.requests import receive
from netfw.service.spawn import command, environment
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.namespaces import Namespace

EVENT_BYTES_MAX = 1 << 20


@contextmanager
def service(box: Namespace, folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run the service with the policy and the socket in a folder; yield its process."""
    serve = command("serve", "--policy", f"{folder}/firewall.toml", "--socket", f"{folder}/socket", *options)
    with subprocess.Popen(
        box.wrap(*serve), env=environment(), stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str]) -> None:
    """Wait until the service listens."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "observers connect at" in line, line + process.stderr.read()


class ServiceClient:
    """A connection to the service that has sent its Hello."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(WAIT_SECONDS_MAX)
        self.socket.connect(os.fspath(path))
        self.socket.sendall(framed(Hello()))

    def receive(self) -> Answer | None:
        """Return the next message; None at the end of the connection."""
        try:
            return decoded(receive(self.socket, EVENT_BYTES_MAX))
        except (FirewallProtocolError, OSError, EOFError):
            return None

    def ask(self, request: PathRequest | bytes) -> str | None:
        """Send a request; return the problem in its answer ("" if there is none), or None if the connection ended."""
        try:
            self.socket.sendall(request if isinstance(request, bytes) else framed(request))
        except OSError:
            return None
        while (answer := self.receive()) is not None:
            if isinstance(answer, PathAnswer):
                return answer.problem
            if isinstance(answer, ConnectionRefusal):
                return None
        return None

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
