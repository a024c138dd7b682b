"""Sets and verdict maps of the model: exact elements in a dictionary, intervals by bisection.

An element is a list of bounds, one pair for each part of its key. Elements whose intervals are in the same positions
form a shape. Within a shape the exact parts select a row; in a row with one interval part, bisection finds the
element. A lookup therefore takes the same time with ten elements and with ten thousand.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any, TypeAlias

from netfw.model.values import Json, RulesetError, Scalar, Value, bounds

Data: TypeAlias = Any
Bounds: TypeAlias = tuple[tuple[Scalar, Scalar], ...]

NEVER_NS = 1 << 63


class ModelSet:
    """A named or anonymous set; with `data`, a map. Keys are plain values for one part, tuples for several."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds
        self._exact: dict[Value, tuple[int, Data]] = {}
        self._shapes: dict[tuple[int, ...], _Shape] = {}
        self._timed: dict[Value, int] = {}

    def add(self, element: Json, data: Data = True, *, now_ns: int = 0) -> None:
        """Add an element in libnftables' form; its timeout (seconds) starts at `now_ns`. Raises: RulesetError."""
        element, expires_ns = _timeout(element, now_ns)
        parts = self._bounds(element)
        wide = tuple(index for index, (low, high) in enumerate(parts) if low != high)
        if not wide:
            key = self._key(parts)
            self._exact[key] = (expires_ns, data)
            if expires_ns != NEVER_NS:
                self._timed[key] = expires_ns
            else:
                self._timed.pop(key, None)
        elif expires_ns != NEVER_NS:
            raise RulesetError(f"element {element!r}: an interval with a timeout is not modelled")
        else:
            self._shapes.setdefault(wide, _Shape(wide)).add(parts, data)

    def remove(self, element: Json) -> None:
        """Remove an exact element. Raises: KeyError."""
        key = self._key(self._bounds(_timeout(element, 0)[0]))
        del self._exact[key]
        self._timed.pop(key, None)

    def clear(self) -> None:
        """Remove all elements."""
        self._exact.clear()
        self._timed.clear()
        self._shapes.clear()

    def next_timeout_ns(self, now_ns: int) -> int:
        """Return when the next element times out; NEVER_NS if none does. Intervals have no timeouts."""
        return min((expires for expires in self._timed.values() if expires > now_ns), default=NEVER_NS)

    def find(self, value: Value, now_ns: int = 0) -> Data | None:
        """Return the element's data (True in a set), or None."""
        entry = self._exact.get(value)
        if entry is not None and entry[0] > now_ns:
            return entry[1]
        if self._shapes:
            parts = value if isinstance(value, tuple) else (value,)
            for shape in self._shapes.values():
                data = shape.find(parts)
                if data is not None:
                    return data
        return None

    def _bounds(self, element: Json) -> Bounds:
        if len(self.kinds) == 1:
            return (bounds(self.kinds[0], element),)
        match element:
            case {"concat": [*parts]} if len(parts) == len(self.kinds):
                return tuple(bounds(kind, part) for kind, part in zip(self.kinds, parts, strict=True))
        raise RulesetError(f"element {element!r}: must be a concatenation of {', '.join(self.kinds)}")

    @staticmethod
    def _key(parts: Bounds) -> Value:
        return parts[0][0] if len(parts) == 1 else tuple(low for low, _ in parts)


class _Shape:
    """Elements with their intervals in the same positions."""

    def __init__(self, wide: tuple[int, ...]) -> None:
        self._wide = wide
        self._rows: dict[tuple[Scalar, ...], list[tuple[Bounds, Data]]] = {}
        self._sorted = True

    def add(self, parts: Bounds, data: Data) -> None:
        row = tuple(low for index, (low, _) in enumerate(parts) if index not in self._wide)
        ranges = tuple(parts[index] for index in self._wide)
        self._rows.setdefault(row, []).append((ranges, data))
        self._sorted = False

    def find(self, parts: tuple[Scalar, ...]) -> Data | None:
        if not self._sorted:
            for row in self._rows.values():
                row.sort(key=lambda entry: entry[0])
            self._sorted = True
        wide = self._wide
        if len(parts) == 1:
            entries = self._rows.get(())
        else:
            entries = self._rows.get(tuple([part for index, part in enumerate(parts) if index not in wide]))
        if entries is None:
            return None
        if len(wide) == 1:  # intervals of one set do not overlap
            value: Any = parts[wide[0]]
            index = bisect_right(entries, value, key=_first_low)
            return entries[index - 1][1] if index and value <= entries[index - 1][0][0][1] else None
        values: list[Any] = [parts[index] for index in wide]
        for ranges, data in entries:
            if all(low <= value <= high for value, (low, high) in zip(values, ranges, strict=True)):
                return data
        return None


def _first_low(entry: tuple[Bounds, Data]) -> Any:
    return entry[0][0][0]


def _timeout(element: Json, now_ns: int) -> tuple[Json, int]:
    match element:
        case {"elem": {"val": value}}:
            seconds = element["elem"].get("expires", element["elem"].get("timeout"))
            return value, NEVER_NS if seconds is None else now_ns + int(seconds) * 1_000_000_000
        case _:
            return element, NEVER_NS


def anonymous(kinds: tuple[str, ...], elements: Iterable[Json]) -> ModelSet:
    """Return a set that is written in a rule."""
    result = ModelSet(kinds)
    for element in elements:
        result.add(element)
    return result
