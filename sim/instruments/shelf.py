"""Reagents on board: they run down test by test, and a person puts new ones in."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from sim.instruments.model import Reagent
from wire.vocabulary import Assay

NEW_LOT_PROBABILITY: Final = 0.1
"""A delivery holds some ten packs of one lot."""


class ReagentShelf:
    """The tests left, by assay; `marked(assay, left)` is called when one reaches its low mark or its end."""

    def __init__(
        self, reagents: tuple[Reagent, ...], random: Random, marked: Callable[[Assay, int], None]
    ) -> None:
        self._reagents = {reagent.assay: reagent for reagent in reagents}
        self._random = random
        self._marked = marked
        self.tests_left = {r.assay: int(r.capacity * random.uniform(0.5, 1.0)) for r in reagents}

    def take(self, uses: tuple[Assay, ...]) -> None:
        """Use one test of each; an assay without reagent is left out."""
        tests_left = self.tests_left
        for assay in uses:
            left = tests_left[assay] - 1
            if left < 0:
                continue
            tests_left[assay] = left
            if left == 0 or left == self._reagents[assay].low:
                self._marked(assay, left)

    def share_left(self, assay: Assay) -> float:
        """How full its place is, 0.0 to 1.0."""
        return self.tests_left[assay] / self._reagents[assay].capacity

    def exhaust(self, assay: Assay) -> None:
        """Lose all that is left of it: a leak, a pack past its date."""
        self.tests_left[assay] = 0
        self._marked(assay, 0)

    def reload(self, assay: Assay) -> bool:
        """Fill its place; whether the new pack is of another lot."""
        self.tests_left[assay] = self._reagents[assay].capacity
        return self._random.random() < NEW_LOT_PROBABILITY

    def check(self) -> None:
        """Mark again whatever is at or below its low mark: a self-test after power-on."""
        for assay, left in self.tests_left.items():
            if left <= self._reagents[assay].low:
                self._marked(assay, left)
