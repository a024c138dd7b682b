"""Rate limit of one instrument's reports."""

from __future__ import annotations

from typing import Final

from wire.process.ratelimit import TokenBucket

REPORTS_PER_SECOND: Final = 20.0
"""Long-term limit; a busy analyzer sends one report per second."""
REPORTS_BURST: Final = 2000
"""Reports that may be sent at once, for example after an outage."""


def report_bucket() -> TokenBucket:
    """Return the rate limit of one instrument."""
    return TokenBucket(REPORTS_PER_SECOND, REPORTS_BURST)
