"""The entries of %packages with their places."""

from __future__ import annotations

from collections.abc import Iterator

from imaging.kickstart.document import Section, Spot
from imaging.kickstart.rule import Case


def entry_words(section: Section) -> Iterator[tuple[Spot, str]]:
    """Yield the entries of a %packages section, without comments and options of groups."""
    for spot, text in section.lines():
        word = text.partition("#")[0].strip()
        if word:
            yield spot, word.split(" --")[0] if word.startswith(("@", "-@")) else word


def entry_place(case: Case, wanted: str) -> Spot | None:
    """Return the place of an entry, or None."""
    for section in case.ks.of("%packages"):
        for spot, word in entry_words(section):
            if word == wanted:
                return spot
    return None


def section_spot(case: Case) -> Spot:
    """Return the first %packages section, or the top of the file."""
    return next((section.spot for section in case.ks.of("%packages")), case.ks.top)
