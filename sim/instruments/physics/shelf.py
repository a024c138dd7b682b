"""The reagents on board an analyzer, which are used up test by test and reloaded by an operator."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from sim.instruments.model import Reagent
from wire.messages import Assay

NEW_LOT_PROBABILITY: Final = 0.1
"""The probability that a new pack is of another lot: a delivery has about ten packs of one lot."""


class ReagentShelf:
    """The tests left, by assay. `marked(assay, left)` is called when a reagent reaches its low mark or is used up."""

    def __init__(
        self, reagents: tuple[Reagent, ...], random: Random, marked: Callable[[Assay, int], None]
    ) -> None:
        self._reagents = {reagent.assay: reagent for reagent in reagents}
        self._random = random
        self._marked = marked
        self.tests_left = {r.assay: int(r.capacity * random.uniform(0.5, 1.0)) for r in reagents}

    def take(self, uses: tuple[Assay, ...]) -> None:
        """Use one test of each reagent in `uses`; those that are used up are left out."""
        tests_left = self.tests_left
        for assay in uses:
            left = tests_left[assay] - 1
            if left < 0:
                continue
            tests_left[assay] = left
            if left == 0 or left == self._reagents[assay].low:
                self._marked(assay, left)

    def share_left(self, assay: Assay) -> float:
        """Return the fill level of a reagent, 0.0 to 1.0."""
        return self.tests_left[assay] / self._reagents[assay].capacity

    def exhaust(self, assay: Assay) -> None:
        """Lose all of a reagent, as after a leak."""
        self.tests_left[assay] = 0
        self._marked(assay, 0)

    def reload(self, assay: Assay) -> bool:
        """Load a full pack; returns whether it is of another lot."""
        self.tests_left[assay] = self._reagents[assay].capacity
        return self._random.random() < NEW_LOT_PROBABILITY

    def check(self) -> None:
        """Call `marked` for each reagent at or below its low mark, as in a self-test after power-on."""
        for assay, left in self.tests_left.items():
            if left <= self._reagents[assay].low:
                self._marked(assay, left)
