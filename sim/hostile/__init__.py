"""Hostile programs on an instrument's computer. Each attacks the instrument's port on the box until it is cancelled.

The programs use the instrument's own certificate, as any software on that computer could, and only asyncio, so that
they run in every world. Each is an `Attack`, which its fault (`sim/faults/instrument/*.py`) starts in addition to the
agent. A program continues when the box refuses or closes its connections.
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
    """The resources of a hostile program: the box's address, the instrument's TLS context, a random generator."""

    box: Endpoint
    tls: ClientContext
    random: Random


Attack: TypeAlias = Callable[[Access], Coroutine[Any, Any, None]]
"""A coroutine function that attacks until it is cancelled, and then closes its connections."""
