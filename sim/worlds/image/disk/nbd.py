"""The server side of the NBD protocol, limited to what QEMU's client uses: one disk, one client at a time.

Source: doc/proto.md of the NBD project (fixed newstyle negotiation, simple replies). The server offers flush and FUA,
so that the client forwards the guest's requests. It does not offer trim and write-zeroes, which are optional.
"""

from __future__ import annotations

import asyncio
import errno
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NamedTuple

_MAGIC: Final = b"NBDMAGICIHAVEOPT"
_OPTION_MAGIC: Final = b"IHAVEOPT"
_REPLY_MAGIC: Final = 0x3E889045565A9
_REQUEST: Final = struct.Struct(">IHHQQI")
_REQUEST_MAGIC: Final = 0x25609513
_SIMPLE_REPLY: Final = struct.Struct(">IIQ")
_SIMPLE_MAGIC: Final = 0x67446698
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_HAS_FLAGS, _SEND_FLUSH, _SEND_FUA = 1, 4, 8
_EXPORT_NAME, _ABORT, _INFO, _GO = 1, 2, 6, 7
_ACK, _INFO_REPLY, _UNSUPPORTED = 1, 3, (1 << 31) + 1
_INFO_EXPORT: Final = 0
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
_FUA: Final = 1
_LENGTH_MAX: Final = 64 << 20
_KNOWN_ERRORS: Final = frozenset({errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC})


class NbdProtocolError(Exception):
    """The client does not follow the protocol, or uses a part of it that this server does not implement."""


class DiskRequest(NamedTuple):
    """A READ, WRITE or FLUSH. `data` is empty unless it is a WRITE."""

    kind: int
    offset: int
    length: int
    data: bytes
    fua: bool


Handler = Callable[[DiskRequest], Awaitable[bytes]]
"""Executes a request and returns the data read. Raises: OSError, which is sent to the client."""


async def serve(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, handle: Handler
) -> None:
    """Serve one client until it disconnects. Raises: NbdProtocolError; any exception of `handle` except OSError."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        if await _negotiate(reader, writer, size):
            while (request := await _next_request(reader)) is not None:
                await _answer(writer, *request, handle)


async def _negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> bool:
    """Negotiate the options; return whether the client will send requests."""
    writer.write(_MAGIC + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
    (flags,) = struct.unpack(">I", await reader.readexactly(4))
    export = struct.pack(">QH", size, _HAS_FLAGS | _SEND_FLUSH | _SEND_FUA)
    while True:
        magic, option, length = struct.unpack(">8sII", await reader.readexactly(16))
        if magic != _OPTION_MAGIC or length > 4096:
            raise NbdProtocolError("the client did not send a valid option")
        await reader.readexactly(length)
        if option == _EXPORT_NAME:
            writer.write(export + (b"" if flags & _NO_ZEROES else bytes(124)))
            return True
        if option in (_INFO, _GO):
            writer.write(_option_reply(option, _INFO_REPLY, struct.pack(">H", _INFO_EXPORT) + export))
            writer.write(_option_reply(option, _ACK))
            if option == _GO:
                return True
        elif option == _ABORT:
            writer.write(_option_reply(option, _ACK))
            return False
        else:
            writer.write(_option_reply(option, _UNSUPPORTED))


def _option_reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack(">QIII", _REPLY_MAGIC, option, kind, len(data)) + data


async def _next_request(reader: asyncio.StreamReader) -> tuple[int, DiskRequest] | None:
    """Return the next request with its handle; None if the client disconnects."""
    magic, flags, kind, handle, offset, length = _REQUEST.unpack(await reader.readexactly(_REQUEST.size))
    if magic != _REQUEST_MAGIC or length > _LENGTH_MAX:
        raise NbdProtocolError("the client did not send a valid request")
    if kind == DISCONNECT:
        return None
    data = await reader.readexactly(length) if kind == WRITE else b""
    return handle, DiskRequest(kind, offset, length, data, bool(flags & _FUA))


async def _answer(writer: asyncio.StreamWriter, handle: int, request: DiskRequest, execute: Handler) -> None:
    data, status = b"", 0
    try:
        if request.kind not in (READ, WRITE, FLUSH):
            raise OSError(errno.EINVAL, "not offered")
        data = await execute(request)
    except OSError as error:
        status = error.errno if error.errno in _KNOWN_ERRORS else errno.EIO
    writer.write(_SIMPLE_REPLY.pack(_SIMPLE_MAGIC, status, handle) + data)
    await writer.drain()
