"""Batches through HAProxy in front of two processes of the data center that share one PostgreSQL database."""

from __future__ import annotations

import asyncio
import shutil
import socket
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Self

import pytest

from datacenter.front_ends import BOX_HEADER
from datacenter.store import queries
from datacenter.store.store import Store
from settings.types import Endpoint
from tests.support.agents.uplink.forwarding import drained, forwarding
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.datacenter.store.duplicates import duplicates
from tests.support.eventually import eventually
from tests.support.real import start
from wire.compression import compress_self_contained
from wire.dial.dialer import dial
from wire.http.connection import PIPELINE_MAX
from wire.messages import Entry, Quality, encode, encode_batch
from wire.tls.context import client_context

FRONT = "NOBODY-1"
"""The name in the certificate with which the front end authenticates to the servers."""
CONFIG = """\
global
    log stdout format raw local0
defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server {server_timeout}
    retries 3
    option redispatch
    log global
    log-format "%s %ST %ci"
frontend boxes
    bind 127.0.0.1:{port} {bind}
    {name_the_box}
    default_backend ingest
backend ingest
    balance roundrobin
    server a 127.0.0.1:{a} {server}
    server b 127.0.0.1:{b} {server}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Center:
    """HAProxy in front of two `rap dc serve` processes on one database; `lines` is HAProxy's log."""

    def __init__(self, pki: Hierarchy, folder: Path, mode: str, url: str, server_timeout: str) -> None:
        self.pki, self.folder, self.mode, self.url = pki, folder, mode, url
        self.server_timeout = server_timeout
        self.store = Store(url)
        self.port, self.ports = free_port(), {"a": free_port(), "b": free_port()}
        self.processes: dict[str, Process] = {}
        self.lines: list[str] = []

    async def __aenter__(self) -> Self:
        for name in self.ports:
            await self.start(name)
        file = self.folder / "haproxy.cfg"
        file.write_text(self.configuration())
        program = shutil.which("haproxy") or pytest.skip("needs haproxy: make setup-kernel")
        self.haproxy = await asyncio.create_subprocess_exec(program, "-db", "-f", str(file), stdout=PIPE)
        self.logging = asyncio.ensure_future(self.read_log())
        await eventually(lambda: is_open(self.port))
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in (*self.processes.values(), self.haproxy):
            if process.returncode is None:
                process.kill()
            await process.wait()
        await self.logging
        self.store.close()

    async def start(self, name: str) -> None:
        """Start a server, and wait until it is ready."""
        tls = self.pki.datacenter
        file = self.folder / f"{name}.toml"
        file.write_text(
            f'boxes = ["RAP-1"]\nfront_ends = ["{FRONT}"]\n'
            f'[listen]\nhost = "127.0.0.1"\nport = {self.ports[name]}\n[store]\nurl = "{self.url}"\n'
            f'[tls]\ncertificate = "{tls.certificate}"\nkey = "{tls.key}"\nauthorities = "{tls.authorities}"\n'
        )
        process = self.processes[name] = await start("dc", "serve", "--config", file)
        assert process.stderr is not None
        line = await process.stderr.readline()
        assert line.decode().split()[-1:] == [str(self.ports[name])], line + await process.stderr.read()

    async def kill(self, name: str) -> None:
        self.processes[name].kill()
        await self.processes[name].wait()

    async def read_log(self) -> None:
        assert self.haproxy.stdout is not None
        async for line in self.haproxy.stdout:
            self.lines.append(line.decode())

    def answered(self, name: str, status: int) -> int:
        """Return the number of requests that a server answered with this status, from HAProxy's log."""
        return sum(line.startswith(f"{name} {status} ") for line in self.lines)

    def configuration(self) -> str:
        bind = server = name_the_box = ""
        if self.mode == "http":
            pem, front = self.folder / "center.pem", self.folder / "front.pem"
            pem.write_text(self.pki.datacenter.certificate.read_text() + self.pki.datacenter.key.read_text())
            front.write_text(self.pki.stranger.certificate.read_text() + self.pki.stranger.key.read_text())
            bind = f"ssl crt {pem} ca-file {self.pki.datacenter.authorities} verify required"
            server = (
                f"ssl crt {front} ca-file {self.pki.box.authorities} verify required verifyhost localhost"
            )
            name_the_box = f"http-request set-header {BOX_HEADER} %[ssl_c_s_dn(CN)]"
        return CONFIG.format(
            mode=self.mode,
            port=self.port,
            bind=bind,
            server=server,
            name_the_box=name_the_box,
            server_timeout=self.server_timeout,
            **self.ports,
        )


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def running(pki: Hierarchy, folder: Path, mode: str, url: str, server_timeout: str = "60s") -> Center:
    return Center(pki, folder, mode, url, server_timeout)


def check_stored_once(center: Center, reports: int) -> None:
    assert queries.counts(center.store)["RAP-1", "CHEM-1"] == reports
    assert duplicates(center.store) == []


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.slow("starts a front end and two data centers")
def test_a_backlog_is_stored_once_through_a_front_end(
    pki: Hierarchy, tmp_path: Path, empty_postgres: str, mode: str
) -> None:
    async def run() -> None:
        async with running(pki, tmp_path, mode, empty_postgres) as center:
            async with forwarding(pki, center.port, backlog=3000, linger_s=0.01) as bench:
                await drained(bench)
                for _ in range(6):  # batches that HAProxy distributes to both servers in turn
                    await bench.routine(64)
                    await drained(bench)
                if mode == "http":
                    await eventually(lambda: min(center.answered("a", 200), center.answered("b", 200)) > 2)
                    refused = center.answered("a", 409) + center.answered("b", 409)
                    assert 1 <= refused <= PIPELINE_MAX, "only requests that were in progress"
            check_stored_once(center, 3000 + 6 * 64)

    asyncio.run(run())


@pytest.mark.parametrize("mode", ["http", "tcp"])
@pytest.mark.parametrize(
    ("killed", "comes_back"), [("a", True), ("b", True), ("b", False)], ids=["a", "b", "b for good"]
)
@pytest.mark.slow("starts a front end and two data centers, and kills one")
def test_a_server_that_is_killed_during_the_transfer_loses_nothing(
    pki: Hierarchy, tmp_path: Path, empty_postgres: str, mode: str, killed: str, comes_back: bool
) -> None:
    backlog = 12_000

    async def run() -> None:
        async with running(pki, tmp_path, mode, empty_postgres) as center:
            async with forwarding(pki, center.port, backlog=backlog, linger_s=0.01) as bench:
                await eventually(lambda: sum(queries.counts(center.store).values()) > 500)
                await center.kill(killed)
                assert await bench.waiting() > backlog / 4, "killed during the transfer"
                if comes_back:
                    await center.start(killed)
                await drained(bench)
            check_stored_once(center, backlog)

    asyncio.run(run())


@pytest.mark.parametrize("through", ["front end", "directly"])
@pytest.mark.slow("starts a front end and two data centers")
def test_a_box_cannot_impersonate_another(
    pki: Hierarchy, tmp_path: Path, empty_postgres: str, through: str
) -> None:
    async def run() -> None:
        async with running(
            pki, tmp_path, "http" if through == "front end" else "tcp", empty_postgres
        ) as center:
            connection = await dial(
                Endpoint("127.0.0.1", center.port), client_context(pki.box), reply_bytes_max=9999
            )
            body = compress_self_contained(
                encode_batch(1, [(1, encode(Entry("CHEM-1", 1, Quality(1, 0, "glu", 1, 0))))])
            )
            response = await connection.request("POST", "/v1/batches", body, "Rap-Box: RAP-2\r\n")
            connection.abort()
            assert response.status == 200
            assert list(queries.counts(center.store)) == [("RAP-1", "CHEM-1")]

    asyncio.run(run())
