"""A map of sites as SVG, without data from the internet.

The projection is equirectangular, true to scale at the latitude of the middle of the map. The map contains all given
sites; sites whose markers would overlap share one marker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, radians
from typing import Final, NamedTuple

from datacenter.fleet.instruments import HEALTHS, Health, SiteRow

WIDTH: Final = 1000
HEIGHT: Final = 470
MARGIN: Final = 60
"""Space around the sites for markers and labels."""
SPAN_DEGREES_MIN: Final = 4.0
"""Minimum extent of the map, so that a single site is shown with its surroundings."""
RADIUS: Final = 14
"""Radius of the marker of several sites."""
DISTANCE_MIN: Final = 2 * RADIUS + 2
SAME_PLACE_DEGREES: Final = 0.05
"""Distance below which a marker links to a list of its sites, because enlarging the map would not separate them."""
LAND_UNITS_PER_DEGREE: Final = 8
"""Scale of `templates/vendor/land.svg`."""
NAMES_MAX: Final = 3
LABEL_CHARACTERS_MAX: Final = 26
_CHARACTER_WIDTH, _LINE_HEIGHT = 6.4, 14
_STEPS: Final = (30, 10, 5, 2, 1)
SHAPES: Final[dict[Health, str]] = {
    "critical": "M-4.6-11H4.6L11-4.6V4.6L4.6 11H-4.6L-11 4.6V-4.6z",
    "error": "M0-13 13 0 0 13-13 0z",
    "silent": "M-9.5-9.5H9.5V9.5H-9.5z",
    "warning": "M0-12 13 10H-13z",
    "ok": "M-10 0A10 10 0 1 1 10 0A10 10 0 1 1-10 0z",
}
"""The outline of a marker, an SVG path around the origin: octagon, diamond, square, triangle, circle."""


class Label(NamedTuple):
    """The text of a marker; `anchor` is the part of it at (x, y): "start", "middle" or "end"."""

    text: str
    x: float
    y: float
    anchor: str


class Marker(NamedTuple):
    """A site, or several whose markers would overlap; at the location of the first, which has the worst health."""

    x: float
    y: float
    sites: tuple[SiteRow, ...]
    label: Label | None = None

    @property
    def health(self) -> Health:
        """The worst health of an instrument at these sites."""
        return HEALTHS[self.sites[0].worst]

    @property
    def scale(self) -> float:
        """The scale of the marker; the marker of several sites is larger, because it contains their number."""
        return 1.25 if len(self.sites) > 1 else 0.85

    @property
    def text(self) -> str:
        """The sites and their instruments by health, for screen readers and tooltips."""
        names = ", ".join(site.name for site in self.sites[:NAMES_MAX])
        if len(self.sites) > 1:
            more = f" and {len(self.sites) - NAMES_MAX} more" if len(self.sites) > NAMES_MAX else ""
            names = f"{len(self.sites)} sites ({names}{more})"
        counts = Counter[Health]()
        for site in self.sites:
            counts.update(site.counts)
        return f"{names}: {', '.join(f'{counts[name]} {name}' for name in HEALTHS if counts[name])}"

    @property
    def area(self) -> str:
        """The filter that selects the sites: west, south, east and north in degrees."""
        south, west, north, east = _bounds(map(_coordinates, self.sites))
        return ",".join(f"{value:.2f}" for value in (west - 0.01, south - 0.01, east + 0.01, north + 0.01))

    @property
    def is_one_place(self) -> bool:
        """Whether the sites are so close that enlarging the map would not separate them."""
        south, west, north, east = _bounds(map(_coordinates, self.sites))
        return max(east - west, north - south) < SAME_PLACE_DEGREES


@dataclass(frozen=True)
class SiteMap:
    """A map of WIDTH by HEIGHT."""

    markers: tuple[Marker, ...]
    unplaced: int
    """The number of sites without coordinates."""
    land: str
    """The SVG transformation of the outlines of land."""
    graticule: str
    """Meridians and parallels as an SVG path."""

    @property
    def has_clusters(self) -> bool:
        """Whether a marker represents several sites."""
        return any(len(one.sites) > 1 for one in self.markers)


class _Projection:
    """Converts degrees to positions on the map, which shows all coordinates."""

    def __init__(self, coordinates: Sequence[tuple[float, float]]) -> None:
        south, west, north, east = _bounds(coordinates)
        self._latitude, self._longitude = (south + north) / 2, (west + east) / 2
        self._narrowing = max(0.2, cos(radians(self._latitude)))
        wide = max((east - west) * self._narrowing, SPAN_DEGREES_MIN) / (WIDTH - 2 * MARGIN)
        high = max(north - south, SPAN_DEGREES_MIN) / (HEIGHT - 2 * MARGIN)
        self.per_degree = 1 / max(wide, high)

    def point(self, latitude: float, longitude: float) -> tuple[float, float]:
        x = WIDTH / 2 + (longitude - self._longitude) * self._narrowing * self.per_degree
        return x, HEIGHT / 2 - (latitude - self._latitude) * self.per_degree

    @property
    def land(self) -> str:
        x, y = self.point(0, 0)
        scale = self.per_degree / LAND_UNITS_PER_DEGREE
        return f"translate({x:.2f} {y:.2f}) scale({scale * self._narrowing:.5f} {scale:.5f})"

    def graticule(self) -> str:
        step = next((step for step in _STEPS if step * self.per_degree < WIDTH / 5), _STEPS[-1])
        ends = [self.point(0, longitude)[0] for longitude in range(-180, 181, step)]
        heights = [self.point(latitude, 0)[1] for latitude in range(-90, 91, step)]
        lines = [f"M{x:.1f} 0V{HEIGHT}" for x in ends if 0 <= x <= WIDTH]
        return "".join(lines + [f"M0 {y:.1f}H{WIDTH}" for y in heights if 0 <= y <= HEIGHT])


def draw_map(sites: Iterable[SiteRow]) -> SiteMap | None:
    """Draw the sites that have coordinates; None if none has."""
    known = [*sites]
    placed = [site for site in known if site.latitude is not None and site.longitude is not None]
    if not placed:
        return None
    projection = _Projection([_coordinates(site) for site in placed])
    worst_first = sorted(placed, key=lambda site: (site.worst, -site.total, site.name))
    markers = list(_clustered(worst_first, projection))
    return SiteMap(
        tuple(_labelled(markers)), len(known) - len(placed), projection.land, projection.graticule()
    )


def _coordinates(site: SiteRow) -> tuple[float, float]:
    assert site.latitude is not None and site.longitude is not None, "only sites with coordinates are drawn"
    return site.latitude, site.longitude


def _bounds(coordinates: Iterable[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Return the bounds in degrees: (south, west, north, east)."""
    latitudes, longitudes = zip(*coordinates, strict=True)
    return min(latitudes), min(longitudes), max(latitudes), max(longitudes)


def _clustered(sites: Iterable[SiteRow], projection: _Projection) -> Iterator[Marker]:
    """Join each site to the first marker that it would overlap, found by cells of DISTANCE_MIN."""
    clusters: list[tuple[float, float, list[SiteRow]]] = []
    cells: dict[tuple[int, int], list[int]] = {}
    for site in sites:
        x, y = projection.point(*_coordinates(site))
        column, row = int(x // DISTANCE_MIN), int(y // DISTANCE_MIN)
        near = [
            index
            for over in (-1, 0, 1)
            for down in (-1, 0, 1)
            for index in cells.get((column + over, row + down), ())
            if (clusters[index][0] - x) ** 2 + (clusters[index][1] - y) ** 2 < DISTANCE_MIN**2
        ]
        if near:
            clusters[min(near)][2].append(site)
        else:
            cells.setdefault((column, row), []).append(len(clusters))
            clusters.append((x, y, [site]))
    return (Marker(x, y, tuple(of)) for x, y, of in clusters)


class _Rectangle(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Rectangle) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def _labelled(markers: Sequence[Marker]) -> Iterator[Marker]:
    """Add a label to each marker of one site if there is free space beside, below or above the marker."""
    taken = [_Rectangle(one.x - RADIUS, one.y - RADIUS, one.x + RADIUS, one.y + RADIUS) for one in markers]
    for marker in markers:
        label = None
        if len(marker.sites) == 1:
            name = marker.sites[0].name
            text = (
                name if len(name) <= LABEL_CHARACTERS_MAX else f"{name[: LABEL_CHARACTERS_MAX - 1].rstrip()}…"
            )
            label = next(_free(text, marker, taken), None)
        yield marker._replace(label=label)


def _free(text: str, marker: Marker, taken: list[_Rectangle]) -> Iterator[Label]:
    """Yield free positions of a label in order of preference; a yielded position is then occupied."""
    width, gap = len(text) * _CHARACTER_WIDTH, RADIUS + 1
    below = RADIUS + _LINE_HEIGHT / 2
    for anchor, x, y, share in (
        ("start", marker.x + gap, marker.y, 0),
        ("end", marker.x - gap, marker.y, 1),
        ("middle", marker.x, marker.y + below, 0.5),
        ("middle", marker.x, marker.y - below, 0.5),
    ):
        left = x - share * width
        wanted = _Rectangle(left, y - _LINE_HEIGHT / 2, left + width, y + _LINE_HEIGHT / 2)
        if left >= 0 and wanted.right <= WIDTH and not any(map(wanted.overlaps, taken)):
            taken.append(wanted)
            yield Label(text, x, y + 4, anchor)
