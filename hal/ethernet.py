"""Ethernet port: whether a cable is in it, and who wants to know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class EthernetPort(Protocol):
    """One physical port of the board, known by the board file's name ("uplink", "port1", …)."""

    @property
    def name(self) -> str:
        """The board's name for the port."""
        ...

    def carrier(self) -> bool:
        """Whether the port sees a link partner now. Never fails: a port that vanished has no carrier."""
        ...

    def watch(self, changed: Callable[[bool], None]) -> Callable[[], None]:
        """Call `changed(carrier)` on the event loop's thread at each change, until the result is called.

        A change that reverts before it was noticed may be left out; the last call is always the present
        state.
        """
        ...
