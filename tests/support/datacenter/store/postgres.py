"""A PostgreSQL server for tests, in a temporary folder and on a Unix socket."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.support.eventually import poll_until

USER = "postgres"


class PostgresServer:
    """A server that can be killed and started again; `url` is the SQLAlchemy URL of its database."""

    def __init__(self, programs: Path, folder: str, *, flushes: bool) -> None:
        self._folder = folder
        self.url = f"postgresql+psycopg://{USER}@/postgres?host={folder}"
        settings = (
            "listen_addresses=",
            f"unix_socket_directories={folder}",
            f"fsync={'on' if flushes else 'off'}",
        )
        options = [argument for setting in settings for argument in ("-c", setting)]
        self._command = [str(programs / "postgres"), "-D", f"{folder}/data", *options]

    def start(self) -> None:
        """Start the server, and wait until it accepts connections, after crash recovery if necessary.

        Raises:
            AssertionError: the server has ended; the message is its log.
        """
        with Path(f"{self._folder}/log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, user=_user(), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        poll_until(self._answers, 120)

    def stop(self) -> None:
        """Stop the server without a checkpoint (immediate shutdown)."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def kill(self) -> None:
        """Kill all processes of the server."""
        pid = self._process.pid
        self._process.send_signal(signal.SIGSTOP)  # the postmaster would restart killed children
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with ExitStack() as stack:
            for child in map(int, children):
                with suppress(ProcessLookupError):
                    process = os.pidfd_open(child)
                    stack.callback(os.close, process)
                    signal.pidfd_send_signal(process, signal.SIGKILL)
                    select.select([process], [], [])  # readable when the process has ended
        self._process.kill()
        self._process.wait()

    def processor_s(self) -> float:
        """Return the processor time of all processes of the server, including ended ones, in seconds."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ticks = 0
        for one in (pid, *children):
            with suppress(FileNotFoundError):
                times = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]
                ticks += sum(map(int, times if one == pid else times[:2]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _answers(self) -> bool:
        assert self._process.poll() is None, Path(f"{self._folder}/log").read_text()
        with suppress(psycopg.OperationalError):
            psycopg.connect(host=self._folder, user=USER, dbname="postgres").close()
            return True
        return False


@contextmanager
def running_server(*, flushes: bool = False) -> Iterator[str]:
    """Run a server, with fsync only if `flushes`; gives the SQLAlchemy URL of an empty database."""
    with killable_server(flushes=flushes) as server:
        yield server.url


@contextmanager
def killable_server(*, flushes: bool = False) -> Iterator[PostgresServer]:
    """Like `running_server`, but for tests that kill the server; it must run when the context ends."""
    if (programs := find_programs()) is None:
        pytest.skip("needs PostgreSQL: run `make setup-kernel` as root")
    with TemporaryDirectory(prefix="rap-postgres-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, USER)
        options = ("--no-sync", "--auth=trust", f"--username={USER}", "--encoding=UTF8")
        subprocess.run(
            [str(programs / "initdb"), *options, f"{folder}/data"],
            check=True,
            user=_user(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        server = PostgresServer(programs, folder, flushes=flushes)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def find_programs() -> Path | None:
    """Return the folder of initdb and postgres, which Debian leaves out of PATH; None where PostgreSQL is missing."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    return max((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")), default=None)


def _user() -> str | None:
    """Return the user for programs of PostgreSQL, which refuse to run as root."""
    return USER if os.geteuid() == 0 else None
