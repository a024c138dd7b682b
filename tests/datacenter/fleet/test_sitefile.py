"""The fleet file: sites and the sites of boxes are entered at the start; mistakes are reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from datacenter.fleet.sitefile import enter_sites, read_sites
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, sites
from settings.problems import SettingsError

SERIALS = ["RAP-0001", "RAP-0002"]
BERLIN = """
[site.berlin-1]
name = "Klinikum Nord"
country = "DE"
region = "europe"
zone = "Europe/Berlin"
latitude = 52.52
longitude = 13
boxes = ["RAP-0001"]
"""
OSAKA = """
[site.osaka-1]
name = "Osaka Central Laboratory"
country = "JP"
region = "asia"
zone = "Asia/Tokyo"
"""


def enter(store: Store, folder: Path, text: str) -> None:
    (folder / "fleet.toml").write_text(text)
    enter_sites(store, read_sites(folder / "fleet.toml", SERIALS))


def box_sites(store: Store) -> dict[str, str | None]:
    return {row[0]: row[1] for row in store.read(select(boxes.c.serial, boxes.c.site))}


def test_sites_and_boxes_are_those_of_the_file(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        enter(store, tmp_path, BERLIN + OSAKA)
        rows = store.read(select(sites.c.site, sites.c.latitude, sites.c.longitude).order_by(sites.c.site))
        assert [tuple(row) for row in rows] == [("berlin-1", 52.52, 13), ("osaka-1", None, None)]
        assert box_sites(store) == {"RAP-0001": "berlin-1", "RAP-0002": None}


def test_a_change_moves_boxes_and_removes_sites(store: Store, tmp_path: Path) -> None:
    enter(store, tmp_path, BERLIN + OSAKA)
    enter(store, tmp_path, OSAKA.replace("Central", "Bay") + 'boxes = ["RAP-0002"]\n')
    assert [tuple(row) for row in store.read(select(sites.c.site, sites.c.name))] == [
        ("osaka-1", "Osaka Bay Laboratory")
    ]
    assert box_sites(store) == {"RAP-0001": None, "RAP-0002": "osaka-1"}


def test_a_box_that_staff_have_placed_keeps_its_site_while_the_file_has_it(
    store: Store, tmp_path: Path
) -> None:
    store.authorize_also("RAP-0002", "berlin-1", 0)
    for text, site in ((BERLIN, "berlin-1"), (OSAKA, None)):
        (tmp_path / "fleet.toml").write_text(text)
        enter_sites(store, read_sites(tmp_path / "fleet.toml", SERIALS), ["RAP-0002"])
        assert box_sites(store)["RAP-0002"] == site


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ('"Europe/Berlin"', '"Berlin"', "site.berlin-1.zone: Berlin is not a zone"),
        ("longitude = 13", "", "site.berlin-1: has one of `latitude` and `longitude`"),
        ("52.52", "152.52", "site.berlin-1.latitude: "),
        ('"DE"', '"Germany"', "site.berlin-1.country: "),
        (
            '"RAP-0001"',
            '"RAP-0003"',
            "RAP-0003 is not in `boxes` of the configuration; add it there",
        ),
        ("boxes =", "boxs =", "boxs: unknown key; did you mean boxes?"),
        ("[site.berlin-1]", "[site.Berlin]", "Berlin"),
        ("[site.berlin-1]", OSAKA + 'boxes = ["RAP-0001"]\n[site.berlin-1]', "RAP-0001 is also at osaka-1"),
    ],
)
def test_a_mistake_is_named_with_its_correction(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert right in BERLIN
    file = tmp_path / "fleet.toml"
    file.write_text(BERLIN.replace(right, wrong))
    with pytest.raises(SettingsError) as error:
        read_sites(file, SERIALS)
    assert message in str(error.value)
