"""The time to prove all theorems for 10,000 authorized addresses: `python -m bench.firewall.proof`.

The policy is applied in a network namespace, the kernel lists the ruleset, and all theorems about that listing are
proven.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from bench.figures import Figure, figure, run
from bench.firewall.namespace import enter_namespace
from bench.firewall.testbed import POLICY, with_addresses
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.policy.policyfile import load_policy
from netfw.proof.prove import ProofFinding, prove


def proof() -> tuple[list[ProofFinding], float, float]:
    """Return the findings, the seconds to list the ruleset, and the seconds to prove."""
    enter_namespace()
    policy, nft = with_addresses(load_policy(POLICY)), Nft()
    Firewall(nft).apply(policy)
    began = time.perf_counter()
    listed = nft.table()
    listing = time.perf_counter() - began
    assert listed is not None
    began = time.perf_counter()
    findings = list(prove(policy, listed))
    return findings, listing, time.perf_counter() - began


def figures() -> list[Figure]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        findings, listing, proving = pool.submit(proof).result()
    for finding in findings:
        if not finding.holds:
            print(finding)
    return [
        figure(
            "theorems proven at 10,000 entries",
            "theorems",
            sum(f.holds for f in findings),
            f">= {len(findings)}",
        ),
        figure("  all of them", "s", proving, "<= 5"),
        figure("  the kernel's listing, before that", "s", listing),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
