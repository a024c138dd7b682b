"""Effects that are in force at the same time, each of which ends by itself and takes nothing else with it.

Whatever a fault does to a part of a lab is a layer on it. What the part does then follows from all layers that are
there, by a rule that the part states, never from the last one that came or went: a link with two delays has their
sum, and a box from which two faults keep the power is on again when both have ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")

End: TypeAlias = Callable[[], "Awaitable[None] | None"]
"""Ends one effect; await what it returns, if anything. Calling it again does nothing."""


def nothing_to_end() -> None:
    """The End of what leaves nothing to undo."""


def layers_of(part: object) -> dict[str, list[object]]:
    """The values of all layers on a part of a lab, by the part's name for them: what faults do to it at present."""
    return {name.lstrip("_"): list(it) for name, it in vars(part).items() if isinstance(it, Layers)}


class Layers(Generic[T]):
    """The layers on one thing, oldest first; `changed` is called after each addition and removal."""

    def __init__(self, changed: Callable[[], object] = nothing_to_end) -> None:
        self._values: dict[object, T] = {}
        self._changed = changed

    def add(self, value: T) -> Callable[[], None]:
        """Add a layer; the result removes it."""
        key = object()
        self._values[key] = value
        self._changed()

        def end() -> None:
            if key in self._values:
                del self._values[key]
                self._changed()

        return end

    async def add_settled(self, value: T, settle: Callable[[], Awaitable[object]]) -> End:
        """Add a layer whose effect takes time: await `settle` after the addition, and after the removal."""
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
        """The layer that came last of those that are there; None if there is none."""
        return next(reversed(self._values.values()), None)
