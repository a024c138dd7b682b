"""The order of the steps that a box reports for an update.

Reports can arrive late, repeatedly and in any order. Therefore each step has a rank, and the highest one counts: the
same reports give the same result in every order.
"""

from __future__ import annotations

from typing import Final

from wire.messages import UpdateWord

RANKS: Final[dict[UpdateWord, int]] = {
    "accepted": 1,
    "fetched": 2,
    "applied": 3,
    "restarting": 4,
    "committed": 10,
    "refused": 11,
    "failed": 11,
    "returned": 11,
}
"""The order of the steps. A return after a commit counts as a failure."""
LAST_RANK_MIN: Final = 10
"""Steps of this rank and above end the update order."""
