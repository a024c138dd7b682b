"""A picture in memory, and rectangular areas of it."""

from __future__ import annotations

from typing import Final, NamedTuple

SIDE_MAX: Final = 4096
"""Maximum width and height of a desktop, in pixels."""
PIXELS_MAX: Final = 2560 * 1600
"""Maximum number of pixels of a desktop; a picture has four bytes for each."""


class PictureError(ValueError):
    """A size that is not supported, or an area that is not within the picture."""


class Area(NamedTuple):
    """A rectangle: the pixels x … x + width - 1 of the rows y … y + height - 1."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column to the right of the area."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row below the area."""
        return self.y + self.height

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.width * self.height

    def common(self, other: Area) -> Area:
        """Return the intersection; its width or height is 0 if the areas do not overlap."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        return Area(
            x, y, max(0, min(self.right, other.right) - x), max(0, min(self.bottom, other.bottom) - y)
        )


class Picture:
    """Pixels in rows, the top left one first. Each has four bytes: blue, green, red, 0.

    As integers (`pixels`), they are 0x00RRGGBB on a little-endian machine; integers never leave the program.
    """

    def __init__(self, width: int, height: int) -> None:
        """Create a black picture. Raises: PictureError if the size is not supported."""
        if not (0 < width <= SIDE_MAX and 0 < height <= SIDE_MAX and width * height <= PIXELS_MAX):
            raise PictureError(
                f"a desktop of {width}×{height} pixels is not supported; sides of 1 to {SIDE_MAX} pixels, "
                f"and {PIXELS_MAX} pixels in total, are"
            )
        self.width, self.height = width, height
        self.data = memoryview(bytearray(4 * width * height))
        self.pixels = self.data.cast("I")

    @property
    def area(self) -> Area:
        """The area of the whole picture."""
        return Area(0, 0, self.width, self.height)

    def require(self, area: Area) -> None:
        """Require that an area is within the picture. Raises: PictureError."""
        if area.x < 0 or area.y < 0 or min(area.width, area.height) < 0:
            raise PictureError(f"{area} is not an area")
        if area.right > self.width or area.bottom > self.height:
            raise PictureError(f"{area} is not within a picture of {self.width}×{self.height} pixels")

    def row(self, x: int, y: int, width: int) -> memoryview:
        """Return the bytes of a part of a row, not copied."""
        start = 4 * (y * self.width + x)
        return self.data[start : start + 4 * width]

    def read(self, area: Area) -> bytes:
        """Return the bytes of an area, row by row. Raises: PictureError."""
        self.require(area)
        return b"".join(self.row(area.x, y, area.width) for y in range(area.y, area.bottom))

    def write(self, area: Area, data: bytes | bytearray | memoryview) -> None:
        """Replace an area; `data` has four bytes for each pixel. Raises: PictureError."""
        self.require(area)
        size = 4 * area.width
        for number, y in enumerate(range(area.y, area.bottom)):
            self.row(area.x, y, area.width)[:] = data[number * size : (number + 1) * size]

    def copy_within(self, target: Area, x: int, y: int) -> None:
        """Copy the area of the target's size at (x, y) to the target; they may overlap. Raises: PictureError."""
        self.require(target)
        self.write(target, self.read(Area(x, y, target.width, target.height)))

    def copy(self) -> Picture:
        """Return a copy."""
        copy = Picture(self.width, self.height)
        copy.data[:] = self.data
        return copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return NotImplemented
        return (self.width, self.height) == (other.width, other.height) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]
