"""Batches through a real HAProxy in front of two ingest servers on one PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import time

import pytest

from agents.dial import FarEnd, dial
from datacenter import queries
from datacenter.ingest import BOX_HEADER, make_ingest
from datacenter.store import Store
from tests.agents.hierarchy import Hierarchy
from tests.agents.test_forwarder import drained, forwarding
from wire.compression import SELF_CONTAINED, STREAM_HEADER, compress_alone
from wire.http import Request, Response, serve
from wire.messages import BATCH_BODY_BYTES_MAX, Entry, Quality, encode, encode_batch
from wire.tls import client_context, server_context

FRONT = "NOBODY-1"
"""The name in the front end's certificate towards the servers."""
CONFIG = """\
global
    log stdout format raw local0
defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
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
    """Two ingest servers; `answered` is each one's number of batches."""

    def __init__(self, pki: Hierarchy, folder: Path, mode: str, url: str) -> None:
        self.pki, self.folder, self.mode = pki, folder, mode
        self.stores = [Store(url), Store(url)]
        self.store = self.stores[0]
        self.store.authorize(["RAP-1"], 0)
        self.answered = [0, 0]
        self.statuses: set[int] = set()
        self.port = free_port()

    def handler(self, number: int):
        ingest = make_ingest(self.stores[number], lambda: 0, None, [FRONT])

        async def handle(request: Request) -> Response:
            response = await ingest(request)
            self.answered[number] += response.status == 200
            self.statuses.add(response.status)
            return response

        return handle

    def configuration(self, a: int, b: int) -> str:
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
            mode=self.mode, port=self.port, bind=bind, server=server, name_the_box=name_the_box, a=a, b=b
        )


@asynccontextmanager
async def running(pki: Hierarchy, folder: Path, mode: str, url: str) -> AsyncIterator[Center]:
    center = Center(pki, folder, mode, url)
    async with AsyncExitStack() as stack:
        for store in center.stores:
            stack.callback(store.close)
        ports = []
        for number in (0, 1):
            server = await serve(
                center.handler(number),
                "127.0.0.1",
                0,
                tls=server_context(pki.datacenter),
                body_bytes_max=BATCH_BODY_BYTES_MAX,
                now=time,
            )
            stack.push_async_callback(server.close)
            ports.append(server.port)
        file = folder / "haproxy.cfg"
        file.write_text(center.configuration(*ports))
        program = shutil.which("haproxy") or pytest.skip("needs haproxy: make setup-kernel")
        process = await asyncio.create_subprocess_exec(program, "-db", "-f", str(file))
        stack.push_async_callback(process.wait)
        stack.callback(process.terminate)
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", center.port)
                    writer.close()
                    break
                except OSError:
                    assert process.returncode is None
                    await asyncio.sleep(0.02)
        yield center


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_a_backlog_arrives_once_through_a_front_end(
    pki: Hierarchy, tmp_path: Path, empty_postgres: str, mode: str
) -> None:
    async def run() -> None:
        async with running(pki, tmp_path, mode, empty_postgres) as center:
            async with forwarding(pki, center.port, backlog=3000, linger_s=0.01) as bench:
                await drained(bench)
                for _ in range(6):  # these take turns
                    await bench.routine(64)
                    await drained(bench)
            stored = queries.counts(center.store)
            assert stored["RAP-1", "CHEM-1"] == 3000 + 6 * 64
            assert queries.duplicates(center.store) == []
            if mode == "http":
                assert min(center.answered) > 0 and 409 in center.statuses
            else:
                assert center.statuses == {200}

    asyncio.run(run())


@pytest.mark.parametrize("through", ["front end", "directly"])
def test_a_box_cannot_pretend_to_be_another(
    pki: Hierarchy, tmp_path: Path, empty_postgres: str, through: str
) -> None:
    async def run() -> None:
        async with running(
            pki, tmp_path, "http" if through == "front end" else "tcp", empty_postgres
        ) as center:
            connection = await dial(
                FarEnd("127.0.0.1", center.port), client_context(pki.box), reply_bytes_max=9999
            )
            body = compress_alone(
                encode_batch(1, [(1, encode(Entry("CHEM-1", 1, Quality(1, 0, "glu", 1, 0))))])
            )
            headers = f"{STREAM_HEADER}: {SELF_CONTAINED}\r\nRap-Box: RAP-2\r\n"
            response = await connection.request("POST", "/v1/batches", body, headers)
            connection.abort()
            assert response.status == 200
            assert list(queries.counts(center.store)) == [("RAP-1", "CHEM-1")]

    asyncio.run(run())
