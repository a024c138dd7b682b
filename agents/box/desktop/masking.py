"""Hides the parts of a screen that the instrument's profile marks as patient data, before pixels leave the box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from settings.profile import DesktopScreen
from wire.desktop.picture import Area, Picture

MASK: Final = bytes([0x80, 0x80, 0x80, 0])
"""The pixel of masked areas: grey."""


class MaskedPicture:
    """The picture that may leave the box: a copy of the instrument's, with masked areas.

    Nothing else reads the instrument's picture. If the screen's size differs from the one in the profile, the
    positions of its fields are unknown, and the whole picture is masked.
    """

    def __init__(self, source: Picture, screen: DesktopScreen | None) -> None:
        self._source = source
        self.picture = Picture(source.width, source.height)
        """The masked copy; `update` brings an area of it up to date."""
        self._masks: Sequence[Area] = ()
        if screen is not None and screen.masked:
            fits = tuple(screen.size) == (source.width, source.height)
            self._masks = [Area(*area) for area in screen.masked] if fits else [source.area]
        for mask in self._masks:
            self.picture.write(mask, MASK * mask.pixels)
        self.update(source.area)

    def update(self, area: Area) -> None:
        """Copy an area of the instrument's picture, except its masked parts."""
        parts = [area.common(self._source.area)]
        for mask in self._masks:
            parts = [visible for part in parts for visible in _without(part, mask)]
        for part in parts:
            self.picture.write(part, self._source.read(part))


def _without(area: Area, hole: Area) -> list[Area]:
    """Return the parts of an area outside of `hole`."""
    hole = area.common(hole)
    if not hole.pixels:
        return [area] if area.pixels else []
    parts = [
        Area(area.x, area.y, area.width, hole.y - area.y),
        Area(area.x, hole.bottom, area.width, area.bottom - hole.bottom),
        Area(area.x, hole.y, hole.x - area.x, hole.height),
        Area(hole.right, hole.y, area.right - hole.right, hole.height),
    ]
    return [part for part in parts if part.pixels]
