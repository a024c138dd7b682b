"""Comparing versions as rpm does, and dependencies on versions.

The rules are those of `rpmvercmp` (rpm's rpmio/rpmvercmp.c): a version is divided into segments of digits and of
letters; digits are newer than letters, "~" is older than the end, and "^" is newer than the end but older than any
other segment.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final, NamedTuple

_SEGMENT: Final = re.compile(r"\d+|[A-Za-z]+|~|\^")


class Evr(NamedTuple):
    """Epoch, version, release; an empty release matches any."""

    epoch: int
    version: str
    release: str


class Dependency(NamedTuple):
    """A capability that is required or provided, such as `libc.so.6(GLIBC_2.34)(64bit)` or `kernel >= 5.14`.

    `flag` is "" for any version, or one of EQ, LT, LE, GT, GE, as in repository metadata.
    """

    name: str
    flag: str = ""
    evr: Evr = Evr(0, "", "")

    def __str__(self) -> str:
        sign = {"EQ": "=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">="}.get(self.flag, "")
        if not sign:
            return self.name
        epoch = f"{self.evr.epoch}:" if self.evr.epoch else ""
        return f"{self.name} {sign} {epoch}{self.evr.version}{'-' + self.evr.release if self.evr.release else ''}"

    def met_by(self, offer: Dependency) -> bool:
        """Return whether this requirement overlaps with a provided one; both may be version ranges."""
        if not self.flag or not offer.flag:
            return True
        order = compare(offer.evr, self.evr)
        if order < 0:
            return self.flag in ("LT", "LE") or offer.flag in ("GT", "GE")
        if order > 0:
            return self.flag in ("GT", "GE") or offer.flag in ("LT", "LE")
        return bool(_AT.get(self.flag, set()) & _AT.get(offer.flag, set()))


_AT: Final = {"EQ": {"at"}, "LE": {"at", "below"}, "GE": {"at", "above"}, "LT": {"below"}, "GT": {"above"}}


def compare(left: Evr, right: Evr) -> int:
    """Return a negative number, 0 or a positive one if `left` is older than, equal to or newer than `right`.

    A missing release equals any.
    """
    if left.epoch != right.epoch:
        return left.epoch - right.epoch
    order = rpmvercmp(left.version, right.version)
    if order or not left.release or not right.release:
        return order
    return rpmvercmp(left.release, right.release)


@cache
def rpmvercmp(left: str, right: str) -> int:
    """Return -1, 0 or 1 if `left` is older than, equal to or newer than `right`."""
    if left == right:
        return 0
    ours, theirs = _SEGMENT.findall(left), _SEGMENT.findall(right)
    for one, other in zip(ours, theirs, strict=False):
        if one != other and (order := _segment(one, other)):
            return order
    if len(ours) == len(theirs):
        return 0
    longer = ours if len(ours) > len(theirs) else theirs
    more = -1 if longer[min(len(ours), len(theirs))] == "~" else 1
    return more if longer is ours else -more


def _segment(one: str, other: str) -> int:
    for mark, order in (("~", -1), ("^", -1)):
        if mark in (one, other):
            return order if one == mark else -order
    if one.isdigit() and other.isdigit():
        return (int(one) > int(other)) - (int(one) < int(other))
    if one.isdigit() != other.isdigit():
        return 1 if one.isdigit() else -1
    return (one > other) - (one < other)
