"""Encodes the changes of a picture as the stream of `wire.desktop.stream`, in short messages.

The encoder keeps a copy of the decoder's picture. Each message covers as many differences between it and the current
picture as fit into the requested size, small changes first. The echo of a key therefore does not wait for a large
picture, a pixel that changes several times between two messages is sent once, and the decoder's picture always
converges to the current one.
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final

from agents.box.desktop.bands import BAND_ROWS, band_of, by_columns, changed_runs, find_band_rows
from agents.box.desktop.scroll import find_copies
from wire.desktop.picture import Area, Picture
from wire.desktop.rfb import CursorShape
from wire.desktop.stream import PALETTE_MAX, TILES_MAX, WINDOW_LOG, Tile, Update, UpdateNotice
from wire.desktop.warm import COLD, WarmContent

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MESSAGE_BYTES: Final = 1500
"""Target size of a compressed message."""
INTERACTIVE_MESSAGE_BYTES: Final = 350
"""Target size during input: an echo waits for at most 30 ms at 128 kbit/s, including all headers."""
URGENT_PIXELS_MAX: Final = 64 * 1024
"""Changes of fewer pixels are urgent: they are sent before larger ones."""
ISOLATED_PIXELS_MAX: Final = 4096
APART_PIXELS: Final = 16
ISOLATED_OF_MAX: Final = 256
"""In a larger change, an area of at most ISOLATED_PIXELS_MAX that is APART_PIXELS from all others is urgent too. With
more than ISOLATED_OF_MAX areas, isolated ones are not searched for."""
URGENT_IN_SUCCESSION: Final = 8
"""Number of consecutive urgent messages after which a message with other changes is sent."""
URGENT_AREAS_MAX: Final = 64
TILE_PIXELS_MAX: Final = 16 * 1024
LEVEL: Final = 19
_TABLES: Final[dict[int, int]] = {
    # for 4 MB of content instead of 16 MB: a session rarely has more, and the box has less memory
    zstd.CompressionParameter.chain_log: 22,
    zstd.CompressionParameter.hash_log: 20,
}
_RATIO_START, _RATIO_WEIGHT, _RATIO_MIN = 1.0, 0.3, 0.25
"""Ratio of bytes in the session's stream to bytes in a quick trial compression: initial value, weight of the last
message in the average, and minimum."""


class PictureEncoder:
    """The encoder of one session. Report changes by `changed`, and send the results of `next_message`."""

    def __init__(self, picture: Picture, warm: WarmContent = COLD, level: int = LEVEL) -> None:
        """`picture` is the current picture; the caller changes it in place. `level` is zstd's level."""
        self._picture = picture
        self._sent = Picture(picture.width, picture.height)
        self._palette = {colour: number for number, colour in enumerate(warm.colours)}
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.window_log: WINDOW_LOG,
        }
        self._zstd = zstd.ZstdCompressor(
            options=options | (_TABLES if level == LEVEL else {}), zstd_dict=warm.zstd_dict
        )
        self._ratio = _RATIO_START
        self._trial_bytes = 0
        """Length of the last update's tiles in a quick trial compression, in bytes."""
        self._size: tuple[int, int] | None = (picture.width, picture.height)
        self._cursor: CursorShape | None = None
        self._notice = self._sent_notice = UpdateNotice.NOTHING
        self._waiting = bytearray(picture.height)
        """One byte per row of the picture: 1 if the row may differ."""
        self._urgent: deque[Area] = deque()
        self._in_succession = 0
        self._band_rows = BAND_ROWS
        self._begins_large_change = True
        """Whether a large change has begun for which bands and copies have not been determined."""
        self.changed(picture.area)

    def resized(self, picture: Picture) -> None:
        """Continue with a picture of another size; the decoder starts from a black one."""
        self._picture, self._sent = picture, Picture(picture.width, picture.height)
        self._size = (picture.width, picture.height)
        self._waiting = bytearray(picture.height)
        self._urgent.clear()
        self.changed(picture.area)

    def changed(self, *areas: Area) -> None:
        """Report areas that may have changed at the same time: servers divide a large change into many areas."""
        visible = [area for area in (area.common(self._picture.area) for area in areas) if area.pixels]
        is_small = sum(area.pixels for area in visible) < URGENT_PIXELS_MAX
        for area in visible if is_small else _isolated(visible):
            if area not in self._urgent:
                self._urgent.append(area)
        if not is_small or len(self._urgent) > URGENT_AREAS_MAX:
            for area in visible:
                self._waiting[area.y : area.bottom] = b"\1" * area.height
            self._begins_large_change = True
        while len(self._urgent) > URGENT_AREAS_MAX:
            area = self._urgent.popleft()
            self._waiting[area.y : area.bottom] = b"\1" * area.height

    def set_cursor(self, cursor: CursorShape) -> None:
        """Report the shape of the pointer."""
        self._cursor = cursor

    def set_notice(self, notice: UpdateNotice) -> None:
        """Set the persistent notices: STALLED, VIEW_ONLY, both or none."""
        self._notice = self._notice & UpdateNotice.BELL | notice

    def ring(self) -> None:
        """Report the bell."""
        self._notice |= UpdateNotice.BELL

    def next_message(self, message_bytes: int = MESSAGE_BYTES) -> bytes | None:
        """Return the next compressed message, of about `message_bytes` without its frame; None if there is none."""
        if (update := self.next_update(message_bytes)) is None:
            return None
        message = self._zstd.compress(update.encode(), mode=self._zstd.FLUSH_BLOCK)
        if self._trial_bytes:
            ratio = min(4.0, len(message) / self._trial_bytes)
            self._ratio += _RATIO_WEIGHT * (ratio - self._ratio)
        return message

    def next_update(self, message_bytes: int = MESSAGE_BYTES) -> Update | None:
        """Return the next update before compression; None if the decoder has everything."""
        update = Update(self._notice, self._size, self._cursor)
        if self._begins_large_change and any(self._waiting) and not self._urgent:
            self._begin_large_change(update)
        self._trial_bytes = self._add_tiles(update, message_bytes)
        if (
            not (update.tiles or update.copies or update.size or update.cursor)
            and self._notice == self._sent_notice
        ):
            return None
        self._size = self._cursor = None
        self._sent_notice = self._notice = self._notice & ~UpdateNotice.BELL
        return update

    @property
    def palette(self) -> tuple[int, ...]:
        """The colours of the palette, in the order of their numbers."""
        return tuple(self._palette)

    def _begin_large_change(self, update: Update) -> None:
        self._begins_large_change = False
        self._band_rows = find_band_rows(self._picture)
        if update.size is None:
            update.copies = find_copies(self._sent, self._picture)
            for copy in update.copies:
                self._sent.copy_within(copy.target, copy.x, copy.y)
                self._waiting[copy.target.y : copy.target.bottom] = b"\1" * copy.target.height

    def _add_tiles(self, update: Update, message_bytes: int) -> int:
        """Add tiles to an update until it is long enough; return their bytes in a quick trial compression."""
        trial_bytes, limit = 0, message_bytes / max(self._ratio, _RATIO_MIN)
        pixels: list[array[int]] = []
        areas: list[Area] = []
        for area in self._differences():
            values = by_columns(self._picture, area)
            trial_bytes += len(zstd.compress(values, 1))
            pixels.append(values)
            areas.append(area)
            self._sent.write(area, self._picture.read(area))
            if trial_bytes >= limit or len(areas) == TILES_MAX:
                break
        number_of = self._palette.__getitem__
        try:
            numbers = [array("H", map(number_of, values)) for values in pixels]
            update.tiles = list(map(Tile, areas, numbers))
        except KeyError:
            update.colours = self._add_colours(pixels)
            update.tiles = [self._tile(area, values) for area, values in zip(areas, pixels, strict=True)]
        return trial_bytes

    def _tile(self, area: Area, values: array[int]) -> Tile:
        try:
            return Tile(area, array("H", map(self._palette.__getitem__, values)))
        except KeyError:  # the palette is full
            return Tile(area, values)

    def _add_colours(self, pixels: list[array[int]]) -> array[int]:
        """Add new colours to the palette, the most frequent first, and return them."""
        counts = Counter[int]()
        for values in pixels:
            counts.update(values)
        unknown = sorted(counts.keys() - self._palette.keys(), key=lambda colour: (-counts[colour], colour))
        new = unknown[: PALETTE_MAX - len(self._palette)]
        self._palette.update(zip(new, range(len(self._palette), PALETTE_MAX), strict=False))
        return array("I", new)

    def _differences(self) -> Iterator[Area]:
        """Yield the areas that differ, in the order of sending. The caller sends each area that it takes."""
        is_urgent = bool(self._urgent) and self._in_succession < URGENT_IN_SUCCESSION
        self._in_succession = self._in_succession + 1 if is_urgent else 0
        sources = (self._in_urgent, self._in_waiting)
        for source in sources if is_urgent else reversed(sources):
            has_areas = False
            for area in source():
                has_areas = True
                yield area
            if has_areas:  # a short message with only the urgent changes arrives earlier
                return

    def _in_urgent(self) -> Iterator[Area]:
        while self._urgent:
            yield from self._in_area(self._urgent[0])
            self._urgent.popleft()

    def _in_waiting(self) -> Iterator[Area]:
        while (y := self._waiting.find(1)) >= 0:
            top, bottom = band_of(y, self._band_rows, self._picture.height)
            yield from self._in_band(Area(0, top, self._picture.width, bottom - top))
            self._waiting[top:bottom] = bytes(bottom - top)

    def _in_area(self, area: Area) -> Iterator[Area]:
        y = area.y
        while y < area.bottom:
            top, y = band_of(y, self._band_rows, self._picture.height)
            yield from self._in_band(Area(area.x, top, area.width, y - top))

    def _in_band(self, band: Area) -> Iterator[Area]:
        for run in changed_runs(self._sent, self._picture, band):
            width = max(1, TILE_PIXELS_MAX // run.height)
            for x in range(run.x, run.right, width):
                yield run._replace(x=x, width=min(width, run.right - x))


def _isolated(areas: list[Area]) -> list[Area]:
    """Return the small areas that are apart from all others, such as a key's echo during a large change."""
    if len(areas) > ISOLATED_OF_MAX:
        return []
    with_margins = [
        (
            area,
            area._replace(
                x=area.x - APART_PIXELS,
                y=area.y - APART_PIXELS,
                width=area.width + 2 * APART_PIXELS,
                height=area.height + 2 * APART_PIXELS,
            ),
        )
        for area in areas
        if area.pixels <= ISOLATED_PIXELS_MAX
    ]
    return [
        area
        for area, with_margin in with_margins
        if sum(with_margin.common(other).pixels > 0 for other in areas) == 1
    ]
