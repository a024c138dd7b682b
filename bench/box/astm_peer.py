"""The recorded ASTM conversations, compared with senaite.astm: `python -m bench.box.astm_peer [--json]`.

senaite.astm (GPL-2.0) runs as a separate process, if the variable SENAITE_ASTM_SERVER names its program
`senaite-astm-server` or the program is on the search path; it is not a dependency. It receives each conversation over
loopback, in pieces as its script says. A case is right if all answers are as the script says; the second figure also
requires that the server has written each record that it acknowledged, once.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory
from typing import Final

from bench.figures import Figure, figure, run
from sim.conversations.casefile import Conversation, ScriptStep, read_conversations
from sim.conversations.suite import run_case
from tests.support.paths import FIXTURES
from tests.support.wire.lines import MessageKeeper, stored
from wire.standards.astm_dialect import AstmDialect
from wire.standards.lis1.endpoint import Lis1Endpoint
from wire.standards.lis1.frames import Frame, FrameReader

PROGRAM: Final = "senaite-astm-server"
START_S_MAX: Final = 120.0
ANSWER_S: Final = 1.0
"""How long to wait for an answer; both answer within milliseconds."""
POLL_S: Final = 0.05


def cases() -> list[Conversation]:
    """Return the recorded conversations of ASTM."""
    conversations = read_conversations(FIXTURES / "instruments" / "index.toml")
    return [case for case in conversations if case.standard.startswith("astm")]


def peer_program() -> str | None:
    """Return the program of senaite.astm."""
    return os.environ.get("SENAITE_ASTM_SERVER") or shutil.which(PROGRAM)


@contextmanager
def peer_server(program: str, folder: Path) -> Iterator[int]:
    """Run a server that writes the frames of its messages into `folder`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    options = (
        "--listen",
        "127.0.0.1",
        "--port",
        str(port),
        "--output",
        str(folder),
        "--message-format",
        "astm",
    )
    with Popen([program, *options], cwd=folder, stdout=DEVNULL, stderr=DEVNULL) as server:
        try:
            _wait_for(port)
            yield port
        finally:
            server.kill()


def _wait_for(port: int) -> None:
    until = time.monotonic() + START_S_MAX
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), ANSWER_S).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)


class PeerScript:
    """Plays a case over a connection to a server."""

    def __init__(self, port: int, data: bytes) -> None:
        self._port, self._data = port, data
        self._connection = self._connect()

    def _connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), ANSWER_S)

    def is_right(self, steps: list[ScriptStep]) -> bool:
        """Return whether every answer is as the script says."""
        try:
            return all(self._play(step) for step in steps)
        except OSError:
            return False
        finally:
            self._connection.close()

    def _play(self, step: ScriptStep) -> bool:
        match step.kind:
            case "send":
                first, end = map(int, step.arguments)
                self._connection.sendall(self._data[first:end])
            case "reply":
                return self._receive(len(step.arguments)) == bytes.fromhex("".join(step.arguments))
            case "not":
                return self._receive(1) != bytes.fromhex(step.arguments[0])
            case "silence":
                return self._receive(1) == b""
            case "wait":
                time.sleep(step.after_s)
            case "open":
                self._connection = self._connect()
            case "close":
                self._connection.close()
        return True

    def _receive(self, size: int) -> bytes:
        received = b""
        with suppress(TimeoutError):
            while len(received) < size and (data := self._connection.recv(size - len(received))):
                received += data
        return received


def accepted_text(case: Conversation) -> bytes:
    """Return the text of all messages of a case, each once."""
    keeper, data = MessageKeeper(), case.file.read_bytes()
    host = Lis1Endpoint(keeper, AstmDialect())
    now = 0.0
    for step in case.steps():
        now += step.after_s
        if step.kind == "send":
            stored(host, host.receive(data[slice(*map(int, step.arguments))], now), now)
    return b"".join(keeper.messages)


def written_text(folder: Path) -> bytes:
    """Return the text of the frames that a server has written, after a pause for the last."""
    time.sleep(2 * POLL_S)
    reader = FrameReader(AstmDialect())
    reader.push(b"".join(file.read_bytes() for file in sorted(folder.glob("*.txt"))))
    return b"".join(token.text for token in iter(reader.pull, None) if isinstance(token, Frame))


def peer_is_right(program: str, case: Conversation) -> tuple[bool, bool]:
    """Return whether a peer answers a case as its script says, and also writes its messages completely and once."""
    with TemporaryDirectory() as folder, peer_server(program, Path(folder)) as port:
        answers = PeerScript(port, case.file.read_bytes()).is_right(case.steps())
        return answers, answers and written_text(Path(folder)) == accepted_text(case)


def figures() -> list[Figure]:
    """Return how many of the recorded conversations the engine and the peer handle."""
    conversations = cases()
    name = f"of {len(conversations)} recorded ASTM conversations: "
    right = sum(run_case(case, "every-point").passed for case in conversations)
    measured = [figure(f"{name}engine, every split point", "right", right, f">= {len(conversations)}")]
    if program := peer_program():
        outcomes = [peer_is_right(program, case) for case in conversations]
        measured += [
            figure(f"{name}senaite.astm, answers as scripted", "right", sum(one for one, _ in outcomes)),
            figure("  and messages complete and once", "right", sum(both for _, both in outcomes)),
        ]
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
