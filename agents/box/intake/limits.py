"""How many reports an instrument may send."""

from __future__ import annotations

from typing import Final

from wire.process.ratelimit import TokenBucket

REPORTS_PER_SECOND: Final = 20.0
"""What one instrument may report in the long run; a busy analyzer makes one a second."""
REPORTS_BURST: Final = 2000
"""What it may report at once, having been cut off for a while."""


def report_bucket() -> TokenBucket:
    """The rate limit of one instrument."""
    return TokenBucket(REPORTS_PER_SECOND, REPORTS_BURST)
