"""The map of sites draws each site once at its coordinates, and joins near sites into one marker."""

from __future__ import annotations

import re
from itertools import accumulate, combinations
from random import Random

import pytest

from datacenter.fleet.instruments import Health, SiteRow
from datacenter.web.charts.site_map import (
    DISTANCE_MIN,
    HEIGHT,
    LAND_UNITS_PER_DEGREE,
    WIDTH,
    SiteMap,
    draw_map,
)
from datacenter.web.rendering import TEMPLATES
from tests.support.datacenter.web.client import WebClient


def site(name: str, latitude: float | None, longitude: float | None, **counts: int) -> SiteRow:
    known: dict[Health, int] = {"ok": 3, **counts}  # type: ignore[dict-item]
    return SiteRow(name, name.title(), "DE", "europe", latitude, longitude, known)


def drawn(*rows: SiteRow) -> SiteMap:
    site_map = draw_map(rows)
    assert site_map is not None
    return site_map


def test_sites_are_drawn_in_their_direction_and_inside_the_map() -> None:
    site_map = drawn(
        site("north", 60, 10), site("south", 40, 10), site("east", 50, 30), site("west", 50, -10)
    )
    at = {one.sites[0].site: (one.x, one.y) for one in site_map.markers}
    assert at["north"][1] < at["east"][1] == at["west"][1] < at["south"][1]
    assert at["west"][0] < at["north"][0] == at["south"][0] < at["east"][0]
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in at.values())


def test_near_sites_are_one_marker_with_the_worst_health() -> None:
    site_map = drawn(
        site("bonn", 50.7, 7.1), site("cologne", 50.9, 7.0, critical=1), site("tokyo", 35.7, 139.7)
    )
    cluster, single = site_map.markers
    assert [one.site for one in cluster.sites] == ["cologne", "bonn"]
    assert (cluster.health, cluster.is_one_place, single.health) == ("critical", False, "ok")
    assert cluster.text == "2 sites (Cologne, Bonn): 1 critical, 6 ok"
    west, south, east, north = map(float, cluster.area.split(","))
    assert west < 7.0 < 7.1 < east and south < 50.7 < 50.9 < north
    assert site_map.has_clusters


def test_sites_at_the_same_place_are_one_marker_at_every_scale() -> None:
    site_map = drawn(site("a", 50.7, 7.1), site("b", 50.7, 7.1))
    assert [one.is_one_place for one in site_map.markers] == [True]


def test_sites_without_coordinates_are_counted() -> None:
    assert drawn(site("a", 50, 7), site("b", None, None), site("c", 50, None)).unplaced == 2
    assert draw_map([site("b", None, None)]) is None
    assert draw_map([]) is None


def test_no_site_is_lost_and_no_markers_overlap_in_random_fleets() -> None:
    random = Random(3)
    for size in (1, 10, 300):
        rows = [site(f"s{n}", random.uniform(-60, 70), random.uniform(-180, 180)) for n in range(size)]
        site_map = drawn(*rows)
        assert sorted(one.site for marker in site_map.markers for one in marker.sites) == sorted(
            one.site for one in rows
        )
        for one, other in combinations(site_map.markers, 2):
            assert (one.x - other.x) ** 2 + (one.y - other.y) ** 2 >= DISTANCE_MIN**2


def markers(text: str) -> list[str]:
    return re.findall(r'class="marker \w+" href="([^"]+)"', text)


def test_the_page_has_a_link_with_a_name_for_each_site(web: WebClient) -> None:
    text = web.sign_in("engineer").get("/?view=map").text
    assert markers(text) == ["/sites/boston-1", "/sites/berlin-1", "/sites/porto-1"]
    assert 'aria-label="Klinikum Nord: 1 error, 1 ok"' in text
    assert "1 site has no coordinates" in text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("region=america", ["/sites/boston-1"]),
        ("health=silent", ["/sites/porto-1"]),
        ("q=klinikum", ["/sites/berlin-1"]),
        ("area=-20,30,0,50", ["/sites/porto-1"]),
    ],
)
def test_filters_hold_for_the_map(web: WebClient, query: str, expected: list[str]) -> None:
    assert markers(web.sign_in("engineer").get(f"/?view=map&{query}").text) == expected


def test_foreign_sites_are_not_on_the_map(web: WebClient) -> None:
    text = web.sign_in("european").get("/?view=map").text
    assert markers(text) == ["/sites/berlin-1", "/sites/porto-1"] and "Harbor" not in text
    assert markers(web.sign_in("newcomer").get("/?view=map").text) == []


def test_the_area_is_a_filter_of_lists_and_exports_too(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    for target in ("/?area=-20,30,0,50", "/instruments.csv?area=-20,30,0,50"):
        text = engineer.get(target).text
        assert "CHEM-0002" in text and "CHEM-0001" not in text
    for wrong in ("1,2,3", "a,b,c,d", "nan,0,1,1", "10,0,5,1", "0,0,1e9,1"):
        answer = engineer.get(f"/?area={wrong}")
        assert answer.status == 400 and "give west,south,east,north in degrees" in answer.text


def outlines() -> list[list[tuple[float, float]]]:
    """Return the outlines of land as (latitude, longitude)."""
    text = (TEMPLATES / "vendor/land.svg").read_text().split('d="')[1].partition('"')[0]
    rings = []
    for ring in text.split("z")[:-1]:
        numbers = [int(one) for one in re.findall(r"-?\d+", ring)]
        steps = zip(numbers[::2], numbers[1::2], strict=True)
        points = accumulate(steps, lambda one, step: (one[0] + step[0], one[1] + step[1]))
        rings.append([(-y / LAND_UNITS_PER_DEGREE, x / LAND_UNITS_PER_DEGREE) for x, y in points])
    return rings


def is_land(latitude: float, longitude: float) -> bool:
    """Return whether the meridian north of the point crosses the outlines an odd number of times."""
    crossings = 0
    for ring in outlines():
        for (y1, x1), (y2, x2) in zip(ring, ring[1:] + ring[:1], strict=True):
            if (x1 > longitude) != (x2 > longitude):
                crossings += y1 + (y2 - y1) * (longitude - x1) / (x2 - x1) > latitude
    return crossings % 2 == 1


@pytest.mark.parametrize(
    "point", [(52.5, 13.4), (39.7, -105), (-15.8, -47.9), (1.3, 36.8), (62, 130), (-25, 135), (66, 175)]
)
def test_inland_points_are_on_land(point: tuple[float, float]) -> None:
    assert is_land(*point)


@pytest.mark.parametrize("point", [(0, -30), (30, -40), (-30, 80), (20, -170), (42, 51), (73, 160)])
def test_points_in_seas_are_not_on_land(point: tuple[float, float]) -> None:
    assert not is_land(*point)
