"""The entries of %packages with their locations."""

from __future__ import annotations

from collections.abc import Iterator

from imaging.kickstart.document import Section, SourceLocation
from imaging.kickstart.rule import Case


def package_entries(section: Section) -> Iterator[tuple[SourceLocation, str]]:
    """Yield the entries of a %packages section, without comments and options of groups."""
    for location, text in section.lines():
        entry = text.partition("#")[0].strip()
        if entry:
            yield location, entry.split(" --")[0] if entry.startswith(("@", "-@")) else entry


def entry_location(case: Case, wanted: str) -> SourceLocation | None:
    """Return the location of an entry, or None."""
    for section in case.ks.sections_named("%packages"):
        for location, entry in package_entries(section):
            if entry == wanted:
                return location
    return None


def section_location(case: Case) -> SourceLocation:
    """Return the location of the first %packages section, or the first line of the file."""
    return next((section.location for section in case.ks.sections_named("%packages")), case.ks.top)
