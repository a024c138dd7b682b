"""Detects vertical movement between two pictures, such as a scrolled list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from operator import ne
from typing import Final

from wire.desktop.picture import Area, Picture
from wire.desktop.stream import COPIES_MAX, AreaCopy

STRIP_PIXELS: Final = 64
"""Width of the strips in which movement is detected. Narrower movement is not detected."""
SAMPLE_STRIPS: Final = 3
"""Approximate number of changed strips in which the scrolling distance is determined."""
RUN_ROWS_MIN: Final = 24
"""Minimum number of changed rows in a moved range that is copied."""
MOVED_SHARE_MIN: Final = 0.5
"""Minimum share of the changed rows that must have moved by the same distance. Below it, equal rows are
coincidental."""


def find_copies(before: Picture, now: Picture) -> list[AreaCopy]:
    """Return copies within `before` that produce changed parts of `now`; all move by one distance.

    Both pictures have the same size. Rows that occur once in a strip are looked up in the other picture; the most
    frequent distance is used. The copies can be applied in sequence: none reads an area that an earlier one wrote.
    """
    strips = _changed_strips(before, now)
    sample = strips[:: max(1, len(strips) // SAMPLE_STRIPS)]
    distance = _most_frequent_distance([(_rows(before, strip), _rows(now, strip)) for strip in sample])
    if not distance or not _have_moved(before, now, sample, distance):
        return []
    rows = [(strip, _rows(before, strip), _rows(now, strip)) for strip in strips]
    ranges = [list(_moved(old, new, distance)) for _, old, new in rows]
    copies: list[AreaCopy] = []
    for (strip, _, _), strip_ranges in zip(rows, ranges, strict=True):
        for top, bottom, _ in strip_ranges:
            _add(copies, strip._replace(y=top, height=bottom - top), distance)
    # when content moves down, the lowest copy comes first: its source may be the target of a higher copy
    return sorted(copies[:COPIES_MAX], key=lambda copy: copy.target.y, reverse=distance > 0)


def _changed_strips(before: Picture, now: Picture) -> list[Area]:
    difference = 0
    for y in range(now.height):
        old, new = before.row(0, y, now.width), now.row(0, y, now.width)
        if old != new:
            difference |= int.from_bytes(old, "little") ^ int.from_bytes(new, "little")
    columns = difference.to_bytes(4 * now.width, "little")
    return [
        Area(x, 0, min(STRIP_PIXELS, now.width - x), now.height)
        for x in range(0, now.width, STRIP_PIXELS)
        if any(columns[4 * x : 4 * (x + STRIP_PIXELS)])
    ]


def _have_moved(before: Picture, now: Picture, strips: list[Area], distance: int) -> bool:
    changed = moved = 0
    for strip in strips:
        old, new = _rows(before, strip), _rows(now, strip)
        changed += sum(map(ne, old, new))
        moved += sum(count for _, _, count in _moved(old, new, distance))
    return moved >= MOVED_SHARE_MIN * changed


def _most_frequent_distance(strips: list[tuple[list[bytes], list[bytes]]]) -> int:
    votes: Counter[int] = Counter()
    for old, new in strips:
        row_of = {row: y for y, row in enumerate(old)}
        repeated = {row for row, count in Counter(old).items() if count > 1}
        votes.update(
            y - row_of[row]
            for y, row in enumerate(new)
            if row != old[y] and row in row_of and row not in repeated
        )
    return votes.most_common(1)[0][0] if votes else 0


def _rows(picture: Picture, strip: Area) -> list[bytes]:
    return [bytes(picture.row(strip.x, y, strip.width)) for y in range(picture.height)]


def _moved(old: list[bytes], new: list[bytes], distance: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first row, row after the last, changed rows) of each moved range with `RUN_ROWS_MIN` changed rows."""
    top = changed = 0
    for y in range(len(new) + 1):
        moved = y < len(new) and 0 <= y - distance < len(old) and new[y] == old[y - distance]
        if moved:
            changed += new[y] != old[y]
            continue
        if changed >= RUN_ROWS_MIN:
            yield top, y, changed
        top, changed = y + 1, 0


def _add(copies: list[AreaCopy], target: Area, distance: int) -> None:
    """Add a copy, or widen the copy of the strip to the left."""
    for index, copy in enumerate(copies):
        beside = copy.target
        if (beside.right, beside.y, beside.height) == (target.x, target.y, target.height):
            copies[index] = AreaCopy(beside._replace(width=beside.width + target.width), copy.x, copy.y)
            return
    copies.append(AreaCopy(target, target.x, target.y - distance))
