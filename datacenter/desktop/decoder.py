"""Decodes the stream of a session's pictures (`wire.desktop.stream`)."""

from __future__ import annotations

import sys
from array import array

from wire.desktop.picture import Area, Picture, PictureError
from wire.desktop.rfb import CursorShape
from wire.desktop.stream import (
    PALETTE_MAX,
    UPDATE_BYTES_MAX,
    WINDOW_LOG,
    DesktopStreamError,
    Tile,
    Update,
    UpdateNotice,
    parse_update,
)
from wire.desktop.warm import COLD, WarmContent

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class PictureDecoder:
    """The decoder of one session; unusable after an error."""

    def __init__(self, warm: WarmContent = COLD) -> None:
        self.picture = Picture(1, 1)
        """The present picture; replaced when its size changes."""
        self.cursor: CursorShape | None = None
        self.notice = UpdateNotice.NOTHING
        """The box's notices in addition to the picture."""
        self._palette = array("I", warm.colours)
        self._zstd = zstd.ZstdDecompressor(
            warm.zstd_dict, options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG}
        )

    def apply(self, message: bytes) -> Update:
        """Apply the next message to the picture, and return its update. Raises: DesktopStreamError."""
        try:
            data = self._zstd.decompress(message, max_length=UPDATE_BYTES_MAX + 1)
        except (zstd.ZstdError, EOFError) as error:
            raise DesktopStreamError(f"not the next message of this stream: {error}") from None
        if len(data) > UPDATE_BYTES_MAX:
            raise DesktopStreamError(f"an update of more than {UPDATE_BYTES_MAX} bytes")
        if self._zstd.eof:
            raise DesktopStreamError("the compressed stream ends within the message")
        update = parse_update(data)
        try:
            self._apply(update)
        except PictureError as error:
            raise DesktopStreamError(str(error)) from None
        return update

    def _apply(self, update: Update) -> None:
        if update.size is not None:
            self.picture = Picture(*update.size)
        self.cursor = update.cursor or self.cursor
        self.notice = update.notice
        if len(self._palette) + len(update.colours) > PALETTE_MAX:
            raise DesktopStreamError(f"a palette of more than {PALETTE_MAX} colours")
        self._palette += update.colours
        for copy in update.copies:
            self.picture.copy_within(copy.target, copy.x, copy.y)
        for tile in update.tiles:
            self.picture.require(tile.area)
            self.picture.write(tile.area, self._rows(tile))

    def _rows(self, tile: Tile) -> bytes:
        try:
            colours = (
                tile.pixels if tile.is_direct else array("I", map(self._palette.__getitem__, tile.pixels))
            )
        except IndexError:
            raise DesktopStreamError("a tile has a colour that is not in the palette") from None
        return to_rows(colours, tile.area)


def to_rows(pixels: array[int], area: Area) -> bytes:
    """Convert pixels from column order to row order; return them as bytes."""
    return b"".join(pixels[row :: area.height].tobytes() for row in range(area.height))
