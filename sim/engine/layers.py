"""Overlapping effects on one part of a lab. Each effect can be ended independently of the others.

Each effect of a fault on a part is one layer. The part's behavior follows from all present layers by a rule of the
part, regardless of the order in which they were added and removed: a link with two delays has their sum, and a box
without power because of two faults is on again when both have ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

End: TypeAlias = Callable[[], "Awaitable[None] | None"]
"""A function that ends one effect; await its result unless that is None. Further calls do nothing."""


def nothing_to_end() -> None:
    """Do nothing: the `End` of an effect that has nothing to undo."""


def layers_of(part: object) -> dict[str, list[object]]:
    """Return the values of all layers on a part of a lab, by the name of the part's attribute."""
    return {name.lstrip("_"): list(it) for name, it in vars(part).items() if isinstance(it, Layers)}


class Layers(Generic[T]):
    """The layers on one part, oldest first; `changed` is called after each addition and removal."""

    def __init__(self, changed: Callable[[], object] = nothing_to_end) -> None:
        self._values: dict[object, T] = {}
        self._changed = changed

    def add(self, value: T) -> Callable[[], None]:
        """Add a layer; returns a function that removes it."""
        key = object()
        self._values[key] = value
        self._changed()

        def end() -> None:
            if key in self._values:
                del self._values[key]
                self._changed()

        return end

    async def add_settled(self, value: T, settle: Callable[[], Awaitable[object]]) -> End:
        """Add a layer whose effect takes time: `settle` is awaited after the addition and after the removal."""
        remove = self.add(value)
        await settle()

        async def end() -> None:
            remove()
            await settle()

        return end

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._values.values()))

    def __len__(self) -> int:
        return len(self._values)

    @property
    def newest(self) -> T | None:
        """The value of the layer that was added last and not removed; None if there is none."""
        return next(reversed(self._values.values()), None)
