"""Paths of sessions through the firewall service: their ends, and forged requests: `python -m bench.sessions.paths`.

Staff, box and instrument are network namespaces, with the firewall service as it is on a box. Ends are measured as
by `bench.firewall.session`: from the request, or the kill, until the arrival of the last byte of an established
connection. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Final

from bench.figures import Figure, figure, run
from bench.firewall.session import BEFORE_SECONDS, until_silent
from netfw.policy.policy import Service
from netfw.ruleset.sessions import THE_BOX, Session
from netfw.service.protocol import ClosePath, OpenPath
from tests.support.eventually import poll_until
from tests.support.namespaces import Namespace
from tests.support.netfw.boxlab import IN_TUNNEL, INSTRUMENT, POLICIES, PORT, STAFF, BoxLab, box_lab
from tests.support.netfw.forged_requests import forged
from tests.support.netfw.service_process import ServiceClient, ready, service

TIMES: Final = 15
TRIES: Final = 10_000
STRANGERS: Final = 100
NOBODY: Final = 65534
DESKTOP: Final = Service("tcp", 5900)
PATHS: Final = {
    "forwarded": Session(ip_address(STAFF[4]), 1, ip_address(INSTRUMENT[1][4]), DESKTOP),
    "staff to box": Session(ip_address(STAFF[4]), THE_BOX, ip_address(IN_TUNNEL), DESKTOP),
    "box to instrument": Session(ip_address(PORT[1][4]), 1, ip_address(INSTRUMENT[1][4]), DESKTOP),
}


@dataclass(frozen=True)
class PathBench:
    """A box with a running firewall service, and its socket."""

    lab: BoxLab
    socket: Path

    def ends(self, name: str) -> tuple[Namespace, Namespace]:
        """Return the namespaces at the beginning and the end of the path."""
        lab = self.lab
        begin = lab.box if name == "box to instrument" else lab.staff
        return begin, lab.box if name == "staff to box" else lab.instrument[1]

    def close(self, path: Session) -> Callable[[], object]:
        """Open a path; the returned function closes it by a request."""
        client = ServiceClient(self.socket)
        assert client.ask(OpenPath.of(path, seconds=60)) == ""
        return lambda: client.ask(ClosePath.of(path))

    def kill(self, path: Session) -> Callable[[], object]:
        """Open a path from another process; the returned function kills it."""
        result, result_in = os.pipe()
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                client = ServiceClient(self.socket)
                os.write(result_in, b"0" if client.ask(OpenPath.of(path, seconds=60)) == "" else b"1")
                signal.pause()
            os._exit(1)
        assert os.read(result, 1) == b"0"
        os.close(result)
        os.close(result_in)
        return lambda: os.kill(pid, signal.SIGKILL)

    def milliseconds(self, name: str, opened: Callable[[Session], Callable[[], object]]) -> float:
        """Return the milliseconds from closing a path until the last byte arrived."""
        path, (begin, end) = PATHS[name], self.ends(name)
        finish = opened(path)
        with ExitStack() as stack:
            server = stack.enter_context(closing(self.lab.listener(end, str(path.instrument), DESKTOP.port)))
            client = stack.enter_context(closing(begin.socket(socket.AF_INET, socket.SOCK_STREAM)))
            client.connect((str(path.instrument), DESKTOP.port))
            accepted = stack.enter_context(closing(server.accept()[0]))
            result, result_in = os.pipe()
            child = os.fork()
            if child == 0:
                with suppress(BaseException):
                    last = until_silent(client, accepted, lambda: os.write(result_in, b"!"))
                    os.write(result_in, str(last).encode())
                os._exit(0)
            os.close(result_in)
            assert os.read(result, 1) == b"!"
            time.sleep(BEFORE_SECONDS)
            began = time.monotonic()
            finish()
            os.waitpid(child, 0)
            arrived = float(os.read(result, 64))
            os.close(result)
        poll_until(lambda: not self.lab.sessions.list())
        return max(0.0, arrived - began) * 1000

    def accepted(self) -> int:
        """Return how many of TRIES forged requests of the box program's own user were accepted."""
        random, accepted, client = Random(1), 0, ServiceClient(self.socket)
        for _ in range(TRIES):
            problem = client.ask(forged(random))
            accepted += problem == ""
            if problem is None:
                client.close()
                client = ServiceClient(self.socket)
        client.close()
        return accepted + len(self.lab.sessions.list())

    def accepted_of_strangers(self) -> int:
        """Return how many valid requests of another user, who can reach the socket, were accepted."""
        pid = os.fork()
        if pid == 0:
            count = STRANGERS
            with suppress(BaseException):
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                count = sum(_problem_of_stranger(self.socket) == "" for _ in range(STRANGERS))
            os._exit(count)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) + len(self.lab.sessions.list())


def _problem_of_stranger(path: Path) -> str | None:
    try:
        with ServiceClient(path) as client:
            return client.ask(OpenPath.of(PATHS["forwarded"], seconds=60))
    except OSError:
        return None


@contextmanager
def path_bench() -> Iterator[PathBench]:
    """Start the service of a box."""
    with box_lab() as lab, TemporaryDirectory() as folder:
        directory = Path(folder)
        directory.chmod(0o755)
        shutil.copy(POLICIES / "clinic.toml", directory / "firewall.toml")
        with service(lab.box, directory, "--ready", f"{directory}/ready") as process:
            ready(process)
            poll_until((directory / "ready").exists)
            assert process.stderr is not None
            Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the service
            (directory / "socket").chmod(0o777)
            yield PathBench(lab, directory / "socket")


def figures() -> list[Figure]:
    measured: list[Figure] = []
    with path_bench() as bench:
        for cause, opened, target in (
            ("request", bench.close, "<= 50"),
            ("SIGKILL of the box program", bench.kill, "<= 100"),
        ):
            for name in PATHS:
                times = sorted(bench.milliseconds(name, opened) for _ in range(TIMES))
                description = f"{name}: from {cause} until no byte passes"
                measured.append(figure(f"{description}, median", "ms", median(times)))
                measured.append(figure(f"{description}, longest", "ms", times[-1], target))
        measured.append(figure(f"of {TRIES:,} forged requests accepted", "", bench.accepted(), "<= 0"))
        strangers = bench.accepted_of_strangers()
        measured.append(figure(f"of {STRANGERS} requests of another user accepted", "", strangers, "<= 0"))
    return measured


if __name__ == "__main__":
    run(figures, __doc__)
