"""The page on its UNIX socket: permissions, and limits of requests and connections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path

import pytest

from agents.box.page.server import BODY_BYTES_MAX, LIMITS, MODE, serve_page
from wire.http.connection import HEAD_BYTES_MAX, Request, Response


async def _echo(request: Request) -> Response:
    return Response(HTTPStatus.OK, request.body)


async def _ask(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        return (await reader.readuntil(b"\r\n")).strip()
    finally:
        writer.close()


def _post(size: int) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + size * b"a"


def _chunked(size: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n" % size + size * b"a" + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (_post(BODY_BYTES_MAX), b"200 OK"),
        (_post(BODY_BYTES_MAX + 1), b"413"),
        (_chunked(BODY_BYTES_MAX), b"200 OK"),
        (_chunked(BODY_BYTES_MAX + 1), b"413"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + HEAD_BYTES_MAX * b"a" + b"\r\n\r\n", b"431"),
        (b"GET /" + HEAD_BYTES_MAX * b"a" + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
    ids=["body", "long body", "chunked body", "long chunked body", "long header", "long address", "no HTTP"],
)
def test_the_application_limits_bodies_headers_and_addresses(
    tmp_path: Path, request_bytes: bytes, status: bytes
) -> None:
    async def inside() -> None:
        async with serve_page(tmp_path / "page.sock", _echo, lambda: 0.0):
            assert status in await _ask(tmp_path / "page.sock", request_bytes)

    asyncio.run(inside())


def test_only_owner_and_group_can_connect_and_the_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "page.sock"

    async def inside() -> None:
        async with serve_page(path, _echo, lambda: 0.0):
            assert path.stat().st_mode & 0o777 == MODE == 0o660
            with pytest.raises(FileExistsError, match="another program"):
                async with serve_page(path, _echo, lambda: 0.0):
                    pass
        assert not path.exists()

    asyncio.run(inside())


def test_connections_have_a_limit_and_new_ones_replace_idle_ones(tmp_path: Path) -> None:
    async def inside() -> None:
        path = tmp_path / "page.sock"
        async with serve_page(path, _echo, lambda: 0.0):
            idle = [await asyncio.open_unix_connection(path) for _ in range(LIMITS.connections_max)]
            assert b"200 OK" in await _ask(path, _post(1))
            assert await idle[0][0].read() == b""
            for _, writer in idle:
                writer.close()

    asyncio.run(inside())
