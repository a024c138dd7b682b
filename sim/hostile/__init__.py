"""Hostile programs on an instrument's computer: each attacks the box's port in one way, until it is cancelled.

They use the instrument's own certificate, as any software on it could, and nothing but asyncio, so that they run in
every world. Each is an `Attack`, which its fault (`sim/faults/instrument/*.py`) starts beside the agent. What the box
does to their connections does not end them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

from settings.types import Endpoint
from wire.tls.context import ClientContext


@dataclass(frozen=True, slots=True)
class Access:
    """What a hostile program has: the box's address, the instrument's certificate, and random numbers."""

    box: Endpoint
    tls: ClientContext
    random: Random


Attack: TypeAlias = Callable[[Access], Coroutine[Any, Any, None]]
"""Attacks until it is cancelled, and ends its connections then."""
