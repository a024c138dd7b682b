"""A small client of the X server: one window over the whole screen, which shows pictures and reports keys."""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from typing import NamedTuple, Self

from PIL import Image

_PUT_IMAGE_BYTES_MAX = 200_000
_KEY_PRESS, _KEY_RELEASE, _BUTTON_PRESS, _BUTTON_RELEASE = 2, 3, 4, 5
_WAIT_SECONDS_MAX = 60.0
"""A guard against hanging."""
_EVENTS = 0x1 | 0x2 | 0x4 | 0x8
"""Keys and buttons, pressed and released."""


class XEvent(NamedTuple):
    """An input event of the window: its kind (2 to 5), and the code of the key or the number of the button."""

    kind: int
    code: int

    @property
    def is_press(self) -> bool:
        return self.kind in (_KEY_PRESS, _BUTTON_PRESS)


class FullWindow:
    """A window of the size of the screen, without a window manager."""

    def __init__(self, display: int) -> None:
        """`display` is that of a server in the network namespace of the calling thread.

        The server's abstract socket belongs to its namespace. The one in /tmp is that of the server that was started
        last with this number, because a server that chooses its number checks that of its own namespace only.
        """
        self._received: deque[XEvent] = deque()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_WAIT_SECONDS_MAX)
        self._socket.connect(f"\0/tmp/.X11-unix/X{display}")
        self._socket.sendall(struct.pack("<BxHHHHxx", 0x6C, 11, 0, 0, 0))
        status, _, _, _, length = struct.unpack("<BBHHH", self._read(8))
        assert status == 1, "the X server refuses the connection"
        setup = self._read(4 * length)
        base = struct.unpack_from("<I", setup, 4)[0]
        vendor, formats = struct.unpack_from("<H", setup, 16)[0], setup[21]
        screen = 32 + (vendor + 3) // 4 * 4 + 8 * formats
        root, _, _, _, _, self.width, self.height = struct.unpack_from("<5IHH", setup, screen)
        self._depth = setup[screen + 38]
        self._window, self._context = base + 1, base + 2
        window = struct.pack("<IIhhHHHHI", self._window, root, 0, 0, self.width, self.height, 0, 1, 0)
        self._request(1, 0, window + struct.pack("<III", 0x0200 | 0x0800, 1, _EVENTS))
        self._request(55, 0, struct.pack("<III", self._context, self._window, 0))
        self._request(8, 0, struct.pack("<I", self._window))  # map
        self._request(42, 1, struct.pack("<II", self._window, 0))  # input focus
        self._synchronize()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def show(self, image: Image.Image, x: int = 0, y: int = 0) -> None:
        """Draw an image at a place, and wait until the server has done so."""
        rows = max(1, _PUT_IMAGE_BYTES_MAX // (4 * image.width))
        for top in range(0, image.height, rows):
            part = image.crop((0, top, image.width, min(image.height, top + rows)))
            head = struct.pack(
                "<IIHHhhBBxx",
                self._window,
                self._context,
                part.width,
                part.height,
                x,
                y + top,
                0,
                self._depth,
            )
            self._request(72, 2, head + part.tobytes("raw", "BGRX"))
        self._synchronize()

    def copy(self, x: int, y: int, width: int, height: int, to_x: int, to_y: int) -> None:
        """Copy an area of the window, as an application that scrolls does."""
        ids = (self._window, self._window, self._context)
        self._request(62, 0, struct.pack("<IIIhhhhHH", *ids, x, y, to_x, to_y, width, height))
        self._synchronize()

    def has_event(self, seconds_max: float) -> bool:
        """Wait for an input event, or until the time is over."""
        return bool(self._received or select.select([self._socket], [], [], seconds_max)[0])

    def next_event(self) -> XEvent:
        """Wait for an input event."""
        while not self._received:
            self._keep(self._read(32))
        return self._received.popleft()

    def _keep(self, data: bytes) -> None:
        if data[0] in (_KEY_PRESS, _KEY_RELEASE, _BUTTON_PRESS, _BUTTON_RELEASE):
            self._received.append(XEvent(data[0], data[1]))

    def _request(self, code: int, detail: int, body: bytes) -> None:
        self._socket.sendall(struct.pack("<BBH", code, detail, 1 + len(body) // 4) + body)

    def _synchronize(self) -> None:
        self._request(43, 0, b"")  # the input focus: any request with a reply
        while True:
            data = self._read(32)
            assert data[0] != 0, f"an error of the X server: {data.hex()}"
            if data[0] == 1:
                return
            self._keep(data)

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            assert part, "the X server has closed the connection"
            data += part
        return data
