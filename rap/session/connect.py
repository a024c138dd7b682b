"""`rap session connect`: a local TCP port for the service of an open session.

The service is a raw TCP service, such as RDP, or a desktop for VNC viewers.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from rap.outcome import FAILED, OK, MachineLacks, WrongInput

if TYPE_CHECKING:
    from websockets.asyncio.client import connect

CHUNK_BYTES: Final = 16 * 1024
_SCHEMES: Final = {"https": "wss", "http": "ws"}


def connect_session(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status. Raises: WrongInput, MachineLacks."""
    address = urlsplit(arguments.url)
    if address.scheme not in _SCHEMES or not address.netloc:
        raise WrongInput(
            f"--url {arguments.url}: give the address of the pages, such as https://rap.example.com"
        )
    host, _, port = arguments.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise WrongInput(f"--listen {arguments.listen}: give an address and a port, such as 127.0.0.1:3389")
    try:
        token = arguments.token_file.read_text().strip()
        tls = ssl.create_default_context(cafile=arguments.ca) if address.scheme == "https" else None
    except (OSError, ssl.SSLError) as error:
        raise WrongInput(f"{arguments.ca or arguments.token_file}: {error}") from error
    target = f"{_SCHEMES[address.scheme]}://{address.netloc}/api/v1/sessions/{arguments.session}/stream"
    try:
        return asyncio.run(_listen(host, int(port), partial(_open, target, token, tls)))
    except OSError as error:
        raise MachineLacks(f"--listen {arguments.listen}: {error.strerror or error}") from error
    except KeyboardInterrupt:
        return OK


def _open(target: str, token: str, tls: ssl.SSLContext | None) -> connect:
    from websockets.asyncio.client import connect

    headers = {"authorization": f"Bearer {token}"}
    return connect(target, additional_headers=headers, ssl=tls, compression=None, max_size=None)


async def _listen(host: str, port: int, open_stream: Callable[[], connect]) -> int:
    """Forward connections until the data center refuses one, or Ctrl-C. Raises: OSError."""
    refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reason = await _forward(reader, writer, open_stream)
        if reason and not refused.done():
            refused.set_result(reason)

    server = await asyncio.start_server(accept, host, port)
    name, number = server.sockets[0].getsockname()[:2]
    print(f"connect to {name}:{number}; Ctrl-C ends", flush=True)
    try:
        print(await refused)
    finally:
        server.close()
    return FAILED


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, open_stream: Callable[[], connect]
) -> str:
    """Forward one connection; return the reason if the data center has refused it, else ""."""
    from websockets.exceptions import ConnectionClosed, InvalidHandshake

    try:
        async with open_stream() as stream:

            async def to_center() -> None:
                while data := await reader.read(CHUNK_BYTES):
                    await stream.send(data)
                await stream.close()

            sending = asyncio.create_task(to_center())
            try:
                async for data in stream:
                    assert isinstance(data, bytes), "the data center sends binary messages"
                    writer.write(data)
                    await writer.drain()
            finally:
                sending.cancel()
            return "" if stream.close_code in (1000, None) else f"refused: {stream.close_reason}"
    except InvalidHandshake as error:
        return f"refused: the API token is invalid or unknown to the data center ({error})"
    except ConnectionClosed as error:
        return "" if error.rcvd is None or error.rcvd.code == 1000 else f"refused: {error.rcvd.reason}"
    except OSError as error:
        return f"the data center cannot be reached: {error}"
    finally:
        with suppress(OSError):
            writer.close()
