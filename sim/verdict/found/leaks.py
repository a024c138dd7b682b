"""Searches the data that leaves the box for texts about patients: in plain form, in base64, in hexadecimal digits.

Each text is searched for in every character set that instruments use. The search takes one look-up for each byte,
regardless of the number of texts.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

CHARSETS: Final = ("utf-8", "latin-1", "cp1252", "gb18030", "utf-16-le", "utf-16-be")
KEY_BYTES: Final = 6
"""The number of leading bytes by which an encoded text is looked up; shorter texts, which could occur by chance, are
not searched for."""
FOUND_MAX: Final = 100
_EMPTY: Final = re.compile(rb"\0{64,}")
"""Unwritten space of a disk."""


@dataclass(slots=True)
class Leaks:
    """The extent of a search, and its findings."""

    patients: int = 0
    searched: dict[str, int] = field(default_factory=dict)
    """The number of bytes searched, by source."""
    found: list[str] = field(default_factory=list)
    """Descriptions of where texts were found, without the texts."""


def search(secrets: Iterable[tuple[str, ...]], sources: Iterable[tuple[str, bytes]]) -> Leaks:
    """Search for the texts of each patient in the bytes of each source."""
    leaks, forms = Leaks(), defaultdict[bytes, list[bytes]](list)
    for texts in secrets:
        leaks.patients += 1
        for form in {form for text in texts for form in forms_of(text)}:
            forms[form[:KEY_BYTES]].append(form)
    for source, data in sources:
        leaks.searched[source] = leaks.searched.get(source, 0) + len(data)
        if len(leaks.found) < FOUND_MAX and (found := sum(1 for _ in _hits(data, forms))):
            leaks.found.append(f"{found} in {len(data):,} bytes of the {source}")
    return leaks


def forms_of(text: str) -> Iterator[bytes]:
    """Yield the encodings in which a text may appear."""
    for charset in CHARSETS:
        try:
            plain = text.encode(charset)
        except UnicodeEncodeError:
            continue
        for form in (plain, plain.hex().encode(), plain.hex().upper().encode(), *_base64_forms(plain)):
            if len(form) >= KEY_BYTES:
                yield form


def _base64_forms(data: bytes) -> Iterator[bytes]:
    """Yield the base64 digits that depend only on the data, for each position of its start in a group of 3 bytes."""
    for before in range(3):
        digits = base64.b64encode(bytes(before) + data).rstrip(b"=")
        end = (before + len(data)) * 8 // 6
        yield digits[-(-before * 8 // 6) : end]


def _hits(data: bytes, forms: dict[bytes, list[bytes]]) -> Iterator[bytes]:
    for part in _EMPTY.split(data):
        for offset in range(len(part) - KEY_BYTES + 1):
            for form in forms.get(part[offset : offset + KEY_BYTES], ()):
                if part.startswith(form, offset):
                    yield form
