"""Audit lines lost by power failures, compared with rsyslog: `python -m bench.box.audit_loss [--json]`.

The box's own way: lines of a log that is rotated are read into the spool, and the power fails 10,000 times at random
moments (`tests.support.agents.read_with_kills`).

rsyslog's way: rsyslogd with the queue of the kickstart's settings forwards 3,000 lines to a server by TCP. The server
becomes unreachable after 1,000 lines; rsyslogd is killed when it has 2,000, as by a power failure, and starts again;
then the server is reachable again. The lines are written to its socket in the format of audisp-syslog.

Needs rsyslog: `make setup-datacenter`.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

from bench.figures import Figure, figure, run
from tests.support.agents.read_with_kills import KILLS, read_with_kills
from tests.support.datacenter.rsyslog import RSYSLOGD, free_port
from tests.support.eventually import poll_until
from tests.support.paths import ROOT

LINES: Final = 3_000
AWAY_AFTER, KILLED_AFTER = 1_000, 2_000
FRAGMENT: Final = ROOT / "kickstart/fragments/65-audit.ks"


class LogServer:
    """A site's log server, which stores the numbers of received lines."""

    def __init__(self, port: int) -> None:
        self.port, self.received = port, Counter[int]()
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []

    def start(self) -> None:
        """Listen, and read all connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        """Close all sockets, as after a power failure."""
        assert self._listener is not None
        for endpoint in (self._listener, *self._connections):
            with suppress(OSError):
                endpoint.shutdown(socket.SHUT_RDWR)  # close() alone does not wake a thread that waits
            endpoint.close()
        self._connections.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        waiting = b""
        while True:
            try:
                data = connection.recv(65536)
            except OSError:
                return
            *lines, waiting = (waiting + data).split(b"\n")
            self.received.update(int(line.rpartition(b"line ")[2]) for line in lines if b"line " in line)
            if not data:
                return


def queue_settings() -> str:
    """Return the settings of the queue in the kickstart's configuration of rsyslog."""
    lines = FRAGMENT.read_text("utf-8").splitlines()
    prefixes = ("$ActionQueue", "$ActionResumeRetryCount", "$MainMsgQueue")
    return "\n".join(line for line in lines if line.startswith(prefixes))


class Rsyslog:
    """An rsyslogd that forwards the lines from its socket."""

    def __init__(self, folder: Path, port: int) -> None:
        self.socket = folder / "log"
        self._folder, self._work = folder, folder / "work"
        self._work.mkdir()
        self._settings = folder / "rsyslog.conf"
        self._settings.write_text(
            f'module(load="imuxsock" SysSock.Use="off")\n'
            f'input(type="imuxsock" Socket="{self.socket}" RateLimit.Interval="0" UseSysTimeStamp="off")\n'
            f"$WorkDirectory {self._work}\n{queue_settings()}\n*.* @@127.0.0.1:{port}\n"
        )
        self._program: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its socket exists on return."""
        self.socket.unlink(missing_ok=True)
        (self._folder / "pid").unlink(missing_ok=True)
        command = [str(RSYSLOGD), "-n", "-f", str(self._settings), "-i", str(self._folder / "pid")]
        self._program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        poll_until(self.socket.exists)

    def kill(self) -> None:
        """Kill it, as a power failure does."""
        assert self._program is not None
        self._program.kill()
        self._program.wait()

    def send(self, first: int, last: int) -> None:
        """Send the lines of these numbers, `last` not included; each is accepted on return."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(self.socket))
            for number in range(first, last):
                sender.send(b"<110>audisp-syslog: line %d" % number)


def by_rsyslog(folder: Path) -> Counter[int]:
    """Return how often the server has received each line."""
    server, rsyslog = LogServer(free_port()), None
    rsyslog = Rsyslog(folder, server.port)
    server.start()
    rsyslog.start()
    rsyslog.send(0, AWAY_AFTER)
    poll_until(lambda: len(server.received) == AWAY_AFTER)
    server.stop()
    rsyslog.send(AWAY_AFTER, KILLED_AFTER)
    rsyslog.kill()
    server.start()
    rsyslog.start()
    rsyslog.send(KILLED_AFTER, LINES)
    poll_until(lambda: {LINES - 1} <= server.received.keys())
    rsyslog.kill()
    server.stop()
    return server.received


def figures() -> list[Figure]:
    """Return all figures."""
    assert RSYSLOGD, "needs rsyslog: make setup-datacenter"
    own = read_with_kills(seed=11)
    with tempfile.TemporaryDirectory() as name:
        received = by_rsyslog(Path(name))
    lost = LINES - len(received)
    return [
        figure("power failures while lines are read into the spool", "", KILLS, ">= 10000"),
        figure("lines written", "", own.written),
        figure("lines lost", "", own.lost, "<= 0"),
        figure("lines stored twice", "", own.twice, "<= 0"),
        figure(f"rsyslog: lines lost of {LINES} by one kill while the server is unreachable", "", lost),
        figure("rsyslog: lines received twice", "", sum(count > 1 for count in received.values())),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
