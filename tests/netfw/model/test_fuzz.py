"""The model agrees with the kernel on every random packet, and a model with a planted bug does not.

`make bench-kernel` compares a million packets, these tests fewer. They need root, and run in network namespaces of
separate processes.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from unittest.mock import patch

import pytest

from bench.firewall.fuzz import FuzzOutcome, compare, compare_here
from netfw.model import conntrack
from netfw.model.fragments import Reassembly
from netfw.model.packet import Packet
from netfw.ruleset.names import CAUSES, CROWDED

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("seed", [101, 109, 122])
def test_kernel_and_model_agree_on_random_packets(seed: int) -> None:
    outcome = compare(6_500, seed)
    assert outcome.packets >= 6_500
    assert not outcome.disagreements, "\n".join(map(str, outcome.disagreements))


def test_random_packets_reach_every_drop_and_every_accept() -> None:
    counted = compare(2_000, 103).counted
    assert {name for name, packets in counted.items() if packets == 0} <= {CROWDED}
    assert set(CAUSES) < set(counted)


def _compare_with_bug(bug: str) -> FuzzOutcome:
    """Compare the kernel with a model that has a bug; to be called in a separate process."""
    if bug == "neighbours":
        icmpv6 = frozenset({130, 131, 132, 133, 134, 136, 143})
        patched: AbstractContextManager[object] = patch.object(conntrack, "UNTRACKED_ICMPV6", icmpv6)
    else:
        put = Reassembly.put

        def loses_fragments(queues: Reassembly, packet: Packet) -> Packet | None:
            return packet if put(queues, packet) is packet else None

        patched = patch.object(Reassembly, "put", loses_fragments)
    with patched:
        return compare_here(600, 105)


@pytest.mark.parametrize("bug", ["neighbours", "fragments"])
def test_a_planted_bug_in_the_model_is_detected_with_its_packet(bug: str) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        outcome = pool.submit(_compare_with_bug, bug).result()
    assert outcome.disagreements
    assert all(len(disagreement.group) < 20 for disagreement in outcome.disagreements)
    assert "seed 105" in str(outcome.disagreements[0])
