"""Comparing versions as dpkg does (deb-version(7)): epoch, upstream version, revision.

Within a part, texts without digits and numbers alternate. In a text, "~" is older than its end, and letters are older
than other characters.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

_PARTS: Final = re.compile(r"(\D*)(\d*)")


def compare_debian(left: str, right: str) -> int:
    """Return a negative number, 0 or a positive one if `left` is older than, equal to or newer than `right`."""
    one, other = _split(left), _split(right)
    if one[0] != other[0]:
        return one[0] - other[0]
    return _compare(one[1], other[1]) or _compare(one[2], other[2])


def _split(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    without_epoch = rest if colon else version
    upstream, _, revision = without_epoch.rpartition("-")
    return (
        int(epoch) if colon and epoch.isdecimal() else 0,
        upstream or without_epoch,
        revision if upstream else "0",
    )


def _compare(left: str, right: str) -> int:
    for (text, number), (text2, number2) in zip_longest(
        _PARTS.findall(left), _PARTS.findall(right), fillvalue=("", "")
    ):
        if order := _texts(text, text2) or int(number or 0) - int(number2 or 0):
            return order
    return 0


def _texts(left: str, right: str) -> int:
    for one, other in zip_longest(map(_weight, left), map(_weight, right), fillvalue=0):
        if one != other:
            return one - other
    return 0


def _weight(letter: str) -> int:
    """Return the rank of a character; the end has 0."""
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256
