"""The entries of %packages with their locations."""

from __future__ import annotations

from collections.abc import Iterator

from imaging.kickstart.document import Section, SourceLocation
from imaging.kickstart.rule import Case


def entry_words(section: Section) -> Iterator[tuple[SourceLocation, str]]:
    """Yield the entries of a %packages section, without comments and options of groups."""
    for location, text in section.lines():
        word = text.partition("#")[0].strip()
        if word:
            yield location, word.split(" --")[0] if word.startswith(("@", "-@")) else word


def entry_location(case: Case, wanted: str) -> SourceLocation | None:
    """Return the location of an entry, or None."""
    for section in case.ks.sections_named("%packages"):
        for location, word in entry_words(section):
            if word == wanted:
                return location
    return None


def section_location(case: Case) -> SourceLocation:
    """Return the location of the first %packages section, or the first line of the file."""
    return next((section.location for section in case.ks.sections_named("%packages")), case.ks.top)
