"""Starting content of a stream: content that both ends have before the first picture.

It has colours and pixels of screens that the instrument's model often shows, which makes the first picture shorter.
It is made only from simulated or masked screens, never from patient data: it is stored, and outlives sessions.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import dataclass
from functools import cached_property

from wire.desktop.stream import PALETTE_MAX, DesktopStreamError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WARM_BYTES_MAX = 8 * 1024 * 1024
NO_CONTENT_ID = bytes(8)


@dataclass(frozen=True)
class WarmContent:
    """The colours that the palette begins with, and the updates that blocks can refer to."""

    colours: tuple[int, ...] = ()
    content: bytes = b""

    @cached_property
    def identity(self) -> bytes:
        """Eight bytes that identify the content; zeros for none."""
        return hashlib.sha256(self.encode()).digest()[:8] if self.content else NO_CONTENT_ID

    @cached_property
    def zstd_dict(self) -> zstd.ZstdDict | None:
        """The content for compressor and decompressor."""
        return zstd.ZstdDict(self.content, is_raw=True) if len(self.content) >= 8 else None

    def encode(self) -> bytes:
        """Return the content as a file."""
        return struct.pack(f">I{len(self.colours)}I", len(self.colours), *self.colours) + self.content

    @classmethod
    def parse(cls, data: bytes) -> WarmContent:
        """Parse a file. Raises: DesktopStreamError."""
        count = int.from_bytes(data[:4], "big")
        if len(data) > WARM_BYTES_MAX or count > PALETTE_MAX or len(data) < 4 + 4 * count:
            raise DesktopStreamError("not the starting content of desktop streams")
        return cls(struct.unpack_from(f">{count}I", data, 4), data[4 + 4 * count :])


COLD = WarmContent()
"""No starting content."""
