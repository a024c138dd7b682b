"""The virtual world's clock: SimPy time as an integer number of nanoseconds since the start of the lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import simpy
from simpy.events import Timeout


class Environment(simpy.Environment):
    """A SimPy environment in nanoseconds."""

    def __init__(self) -> None:
        super().__init__(0)

    @property
    def now(self) -> int:
        """Nanoseconds since the start of the lab."""
        return self._now  # type: ignore[return-value]

    def after(self, delay_ns: int, callback: Callable[[Timeout], None], value: Any = None) -> None:
        """Call `callback` with an event that carries `value`, `delay_ns` from now."""
        callbacks: list[Any] | None = Timeout(self, delay_ns, value).callbacks
        assert callbacks is not None
        callbacks.append(callback)
