"""SIGTERM ends the data center in bounded time, even while a database call does not return."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from datacenter.store import queries
from datacenter.store.store import Store
from settings.types import Endpoint
from tests.support.datacenter.programs import configure
from tests.support.datacenter.store.batches import alert, encoded
from tests.support.eventually import WAIT_SECONDS_MAX, eventually
from wire.compression import Compressor
from wire.dial.dialer import dial
from wire.http.connection import HttpError
from wire.messages import TIME_PATH
from wire.tls.context import client_context

PROGRAM = """
import sys
from datacenter import main
main.END_SECONDS_MAX = 1.0
main.run_datacenter(sys.argv[1], ready=lambda ports: print(ports.boxes, flush=True))
print("stopped", flush=True)
"""

ENDING = "rap: stopping because of a signal\n"
PRINTS_ON_SIGNAL = """
from datacenter import main
class PrintingExit(main.ForcedExit):
    def arm(self, *arguments):
        super().arm(*arguments)
        print("ending", flush=True)
main.ForcedExit = PrintingExit
"""


@contextmanager
def running(config: Path, program_text: str = PROGRAM) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", program_text, str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


@contextmanager
def locked(url: str, table: str) -> Iterator[None]:
    """Hold an exclusive lock on the table in another session."""
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield
    engine.dispose()


async def a_call_waits(url: str) -> None:
    """Wait until a database session waits for a lock."""
    engine = create_engine(url)
    count = text("SELECT count(*) FROM pg_locks WHERE NOT granted")

    def waiting() -> bool:
        with engine.connect() as connection:
            return bool(connection.scalar(count))

    await eventually(waiting)
    engine.dispose()


def end(program: subprocess.Popen[str]) -> tuple[int, str]:
    """Send SIGTERM; return the exit status and the standard error."""
    program.terminate()
    _, output = program.communicate(timeout=WAIT_SECONDS_MAX)
    return program.returncode, output


def test_a_batch_that_is_never_committed_is_not_acknowledged(empty_postgres: str, tmp_path: Path) -> None:
    config, box = configure(tmp_path, empty_postgres)

    async def send(port: int) -> None:
        connection = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=1000)
        answer = connection.request("POST", "/v1/batches", Compressor().compress(encoded(alert(1))))
        await a_call_waits(empty_postgres)
        program.send_signal(signal.SIGTERM)
        with pytest.raises(HttpError):
            await asyncio.wait_for(answer, WAIT_SECONDS_MAX)

    with running(config) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        with locked(empty_postgres, "records"):
            asyncio.run(send(port))
            status, output = end(program)
    assert status == 3
    ready, ending, failed = output.splitlines()
    assert (ready, ending + "\n") == (f"rap: ready on port {port}", ENDING)
    assert failed.startswith("rap: store.url: postgresql+psycopg://postgres@/postgres")
    assert "the database has not responded for 1 s" in output
    store = Store(empty_postgres)
    assert queries.counts(store) == {}
    store.close()


def test_a_hanging_database_call_at_the_start_ends_the_program(empty_postgres: str, tmp_path: Path) -> None:
    config, _ = configure(tmp_path, empty_postgres)
    Store(empty_postgres).close()
    with locked(empty_postgres, "boxes"), running(config) as program:
        asyncio.run(a_call_waits(empty_postgres))
        status, output = end(program)
    assert status == 3
    assert "the database has not responded" in output


def test_a_database_call_that_returns_in_time_is_awaited(empty_postgres: str, tmp_path: Path) -> None:
    config, _ = configure(tmp_path, empty_postgres)
    Store(empty_postgres).close()
    with running(config, PRINTS_ON_SIGNAL + PROGRAM) as program:
        assert program.stdout is not None
        with locked(empty_postgres, "boxes"):
            asyncio.run(a_call_waits(empty_postgres))
            program.terminate()
            assert program.stdout.readline() == "ending\n", "the call returns after the signal"
        output, errors = program.communicate(timeout=WAIT_SECONDS_MAX)
    assert (program.returncode, output, errors) == (0, "stopped\n", ENDING)


def test_a_locked_database_file_ends_the_program_with_a_reason(tmp_path: Path) -> None:
    """SQLite waits up to 15 s for the lock; the program does not wait for that."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    config, box = configure(tmp_path, url)

    async def send(port: int) -> None:
        connection = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=1000)
        answer = connection.request("POST", "/v1/batches", Compressor().compress(encoded(alert(1))))
        other = await dial(Endpoint("localhost", port), client_context(box), reply_bytes_max=1000)
        assert (await other.request("GET", TIME_PATH)).status == 204, "so that the batch is being handled"
        program.send_signal(signal.SIGTERM)
        with pytest.raises(HttpError):
            await asyncio.wait_for(answer, WAIT_SECONDS_MAX)

    with running(config) as program:
        assert program.stdout is not None
        port = int(program.stdout.readline())
        with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            asyncio.run(send(port))
            status, output = end(program)
    assert status == 3
    assert "store.db: the database has not responded for 1 s" in output
    store = Store(url)
    assert queries.counts(store) == {}
    store.close()
