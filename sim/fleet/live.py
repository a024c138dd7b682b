"""Sends the reports of boxes to the data center as time passes, through one TLS connection of a front end."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from typing import Final

from datacenter.front_ends import BOX_HEADER
from datacenter.ingest import PATH
from datacenter.store.batches.batch import Received
from sim.fleet.box import FleetBox
from sim.fleet.clock import FastClock
from sim.units import MILLISECOND_NS
from wire.compression import compress_self_contained
from wire.http.connection import ClientConnection, HttpError
from wire.messages import REPLY_BYTES_MAX, encode
from wire.tls.context import Identity, client_context

TICK_SECONDS: Final = 1.0
"""The interval at which the reports of all boxes are sent, in real time."""
RETRY_SECONDS: Final = 2.0
HOST: Final = "localhost"
_log: Final = logging.getLogger(__name__)


async def send_forever(
    boxes: Sequence[FleetBox], start_ms: int, clock: FastClock, port: int, identity: Identity
) -> None:
    """Send until cancelled; after an error, the batch is sent again on a new connection."""
    connection: ClientConnection | None = None
    while True:
        for box in boxes:
            for received in box.until((clock.now_ms() - start_ms) * MILLISECOND_NS):
                connection = await _deliver(connection, received, port, identity)
        await asyncio.sleep(TICK_SECONDS)


async def _deliver(
    connection: ClientConnection | None, received: Received, port: int, identity: Identity
) -> ClientConnection:
    """Send a batch until it is stored; return the connection."""
    body = compress_self_contained(encode(received.batch))
    while True:
        try:
            if connection is None:
                connection = await _connected(port, identity)
            header = f"{BOX_HEADER}: {received.box}\r\n"
            response = await connection.request("POST", PATH, body, header)
            if response.status == 200:
                return connection
            _log.warning("%s: status %d: %s", received.box, response.status, response.body.decode())
        except (HttpError, OSError) as error:
            _log.debug("%s: %s", received.box, error)
        if connection is not None:
            connection.close()
        connection = None
        await asyncio.sleep(RETRY_SECONDS)


async def _connected(port: int, identity: Identity) -> ClientConnection:
    context: ssl.SSLContext = client_context(identity)
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: ClientConnection(HOST, REPLY_BYTES_MAX), HOST, port, ssl=context, server_hostname=HOST
    )
    return connection
