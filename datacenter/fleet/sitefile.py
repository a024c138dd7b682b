"""The fleet's file (TOML): the sites, with the boxes at each. Unknown keys are errors.

[site.berlin-1]                     # the name in locations: "site/berlin-1"
name = "Klinikum Nord"
country = "DE"                      # ISO 3166-1
region = "europe"
zone = "Europe/Berlin"              # of the IANA time zone database
latitude = 52.52                    # optional: degrees, for the map
longitude = 13.40
four_eyes = true                    # optional: desktops are shown only while two people watch them
boxes = ["RAP-0001"]                # serial numbers
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from msgspec import Meta
from sqlalchemy import text, update

from datacenter.access.directory import is_zone
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, sites
from settings.problems import Problems
from settings.profile import Text
from settings.toml import load
from settings.types import Serial, Table

SiteName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}\Z", examples=["berlin-1"])]
Country: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z", examples=["DE"])]
Region: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z", examples=["europe"])]
_ENTER: Final = text(
    "INSERT INTO sites (site, name, country, region, zone, latitude, longitude)"
    " VALUES (:site, :name, :country, :region, :zone, :latitude, :longitude)"
    " ON CONFLICT (site) DO UPDATE SET name = excluded.name, country = excluded.country,"
    " region = excluded.region, zone = excluded.zone, latitude = excluded.latitude, longitude = excluded.longitude"
)


class SiteTable(Table, frozen=True):
    """A site; without coordinates it is not on the map."""

    name: Text
    country: Country
    region: Region
    zone: str
    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    four_eyes: bool = False
    boxes: list[Serial] = []


class FleetFile(Table, frozen=True):
    """The content of the file."""

    site: dict[SiteName, SiteTable]

    @property
    def four_eyes(self) -> list[str]:
        """The sites whose desktops are shown only to two people."""
        return [name for name, site in self.site.items() if site.four_eyes]


def read_sites(file: Path, serials: Collection[str]) -> FleetFile:
    """Read the fleet's file. `serials` are the serial numbers of authorized boxes. Raises: SettingsError."""

    def check(content: FleetFile, problems: Problems) -> None:
        sites_of_boxes: dict[str, str] = {}
        for name, site in content.site.items():
            with problems.part():
                if not is_zone(site.zone):
                    message = "is not a zone of the IANA time zone database; write one like Europe/Berlin"
                    problems.add(("site", name, "zone"), f"{site.zone} {message}")
            with problems.part():
                if (site.latitude is None) is not (site.longitude is None):
                    problems.add(
                        ("site", name), "has one of `latitude` and `longitude`; give both or neither"
                    )
            with problems.part():
                check_boxes(name, site, sites_of_boxes, problems)

    def check_boxes(name: str, site: SiteTable, sites_of_boxes: dict[str, str], problems: Problems) -> None:
        for index, box in enumerate(site.boxes):
            key = ("site", name, "boxes", index)
            if box not in serials:
                problems.add(key, f"{box} is not in `boxes` of the configuration; add it there, or remove it")
            elif (first := sites_of_boxes.setdefault(box, name)) != name:
                problems.add(key, f"{box} is also at {first}; a box is at one site")

    return load(file, FleetFile, check)


def enter_sites(store: Store, fleet: FleetFile, placed_by_staff: Collection[str] = ()) -> None:
    """Store the sites and the sites of the boxes; entries that the file does not name are removed.

    The boxes `placed_by_staff` keep the site that staff have assigned to them, if the file contains it.

    Raises: StoreError.
    """
    with store.transaction() as connection:
        connection.execute(sites.delete().where(sites.c.site.not_in(list(fleet.site))))
        known = [box for site in fleet.site.values() for box in site.boxes]
        is_placed = boxes.c.serial.in_(placed_by_staff) & boxes.c.site.in_(list(fleet.site))
        connection.execute(update(boxes).where(boxes.c.serial.not_in(known), ~is_placed).values(site=None))
        for name, site in fleet.site.items():
            coordinates = {"latitude": site.latitude, "longitude": site.longitude}
            columns = {"name": site.name, "country": site.country, "region": site.region, "zone": site.zone}
            connection.execute(_ENTER, {"site": name, **columns, **coordinates})
            connection.execute(update(boxes).where(boxes.c.serial.in_(site.boxes)).values(site=name))
