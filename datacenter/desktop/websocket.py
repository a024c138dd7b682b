"""Serves an unmodified noVNC: RFB over a WebSocket."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from datacenter.desktop.receiver import ShownDesktop
from datacenter.desktop.viewer import DesktopViewer
from wire.desktop.rfb import RfbError

SUBPROTOCOL: Final = "binary"
"""Requested by older viewers; equivalent to the default."""
_PROTOCOL_ERROR, _ENDED = 1002, 1000
_REASON_BYTES_MAX: Final = 123


class WebSocketChannel:
    """The bytes of binary messages; message boundaries have no meaning."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._received = bytearray()

    async def read_exactly(self, length: int) -> bytes:
        """Return the next `length` bytes.

        Raises: EOFError at the end of the connection; RfbError for a text message.
        """
        while len(self._received) < length:
            try:
                message = await self._websocket.receive()
            except (RuntimeError, WebSocketDisconnect):  # already closed
                raise EOFError from None
            if message["type"] == "websocket.disconnect":
                raise EOFError
            data = message.get("bytes")
            if data is None:
                raise RfbError("the viewer sent text in its WebSocket")
            self._received += data
        part = bytes(self._received[:length])
        del self._received[:length]
        return part

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the buffer is full. Raises: OSError."""
        try:
            await self._websocket.send_bytes(data)
        except (RuntimeError, WebSocketDisconnect):
            raise BrokenPipeError("the viewer's WebSocket is closed") from None


async def serve_viewer(websocket: WebSocket, desktop: ShownDesktop, name: str, *, has_control: bool) -> None:
    """Serve a viewer until it disconnects, or until the caller cancels because the session has ended.

    The caller has checked the rights of the person, and the origin of the request.
    """
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
    viewer = DesktopViewer(desktop, WebSocketChannel(websocket), name, has_control=has_control)
    code, reason = _ENDED, "the session has ended"
    try:
        await viewer.run()
    except RfbError as error:
        code, reason = _PROTOCOL_ERROR, str(error)
    except (EOFError, OSError):
        pass
    finally:
        await close_if_connected(websocket, code, reason)


async def close_if_connected(websocket: WebSocket, code: int, reason: str) -> None:
    """Close a WebSocket if it is still connected; the reason is shortened if necessary."""
    if websocket.application_state == websocket.client_state == WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(code, reason.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore"))


def handshake_of(websocket: WebSocket) -> Request:
    """Return the request of a WebSocket's handshake, with its headers and cookies."""
    return Request({**websocket.scope, "type": "http", "method": "GET"})
