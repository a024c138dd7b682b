"""Fictitious patients whose names, numbers and samples do not occur in other data by chance."""

from __future__ import annotations

from random import Random
from typing import Final

from sim.instruments.host_interface.content import Patient

_SYLLABLES: Final = ("qua", "zor", "vé", "xil", "mür", "gøt", "þa", "wyn", "jaf", "ñel", "rôk", "ßum")
_CHINESE: Final = "倈粅圽塣奮峾憓檤漗"
"""Characters whose second byte in GB 18030 is a delimiter: 0x7C, 0x5E or 0x5C."""


class Patients:
    """Draws patients. Names have Chinese characters if `chinese`, otherwise letters of Latin-1."""

    def __init__(self, random: Random, *, chinese: bool = False) -> None:
        self._random, self._chinese = random, chinese

    def next(self) -> Patient:
        """Return a new patient."""
        random = self._random
        return Patient(
            self._name(),
            self._name(),
            f"{random.randrange(10**9, 10**10)}",
            f"S{random.randrange(10**8, 10**9)}",
            f"19{random.randrange(20, 99):02}{random.randrange(1, 13):02}{random.randrange(1, 29):02}",
            random.choice("MF"),
        )

    def _name(self) -> str:
        if self._chinese:
            return "".join(self._random.choices(_CHINESE, k=4))
        return "".join(self._random.choices(_SYLLABLES, k=4)).capitalize()
