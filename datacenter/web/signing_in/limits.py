"""A limit of refused attempts per address, so that guessing can neither fill the audit log nor load the processor."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from wire.process.ratelimit import TokenBucket

REFUSALS_PER_SECOND: Final = 0.5
REFUSALS_BURST: Final = 20
"""Burst of refusals that are recorded per address; further ones are not recorded."""
ADDRESSES_MAX: Final = 10_000
"""Addresses with a separate limit; all others share one."""


class RefusalLimits:
    """Counts the refusals of each address."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}

    def take(self, request: Request, now_ms: int) -> float:
        """Count a refusal; return 0, or if there were too many, the seconds until the next one is permitted."""
        address = request.client.host if request.client else ""
        key = address if address in self._buckets or len(self._buckets) < ADDRESSES_MAX else ""
        bucket = self._buckets.setdefault(key, TokenBucket(REFUSALS_PER_SECOND, REFUSALS_BURST))
        return bucket.take(1, now_ms / 1000)
