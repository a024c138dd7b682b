"""Access control: `python -m bench.datacenter.access [--json]`.

Decisions, lists and formulas are compared with the reference implementation of Cedar on random requests; half of them
by the shipped policies, half by random policies. The speed of decisions and proofs is in processor time of one core.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from random import Random
from typing import Final

from sqlalchemy import create_engine

from bench.datacenter.scale import scaled
from bench.figures import Figure, figure, run
from datacenter.access.compiled import CompiledPolicies
from datacenter.access.language.policyfile import read_policies
from datacenter.access.proof.prove import prove
from datacenter.access.proof.theorems import read_theorems
from datacenter.access.vocabulary import PAIRS
from tests.support.datacenter.access.cases import random_policies, world
from tests.support.datacenter.access.formulas import proven
from tests.support.datacenter.access.lists import fill, selected
from tests.support.datacenter.access.reference import decisions

CASES: Final = scaled(100_000, 2000)
RESOURCES: Final = 50
REQUESTS: Final = 20
DECISIONS: Final = 200_000


def compare(seed: int) -> tuple[int, int, int]:
    """Compare the four uses in one random world; return cases, permitted cases, and differences."""
    random = Random(seed)
    random_world, shipped = world(random, RESOURCES), CompiledPolicies(read_policies())
    cases = permitted = differences = 0
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        fill(connection, [resource for listed in random_world.resources.values() for resource in listed])
        for number in range(REQUESTS):
            pair = random.choice(PAIRS)
            policies = shipped if number % 2 else CompiledPolicies(random_policies(random, pair))
            request, listed = random_world.request(random, pair), random_world.resources[pair[1]]
            requests = [replace(request, resource=resource) for resource in listed]
            decided = [policies.decide(case).permitted for case in requests]
            references = [result for result, _ in decisions(policies.policies, requests)]
            selected_ids = selected(connection, policies.policies, request)
            rows = [resource.id in selected_ids for resource in listed]
            formulas = proven(policies.policies, request, listed)
            cases += len(listed)
            permitted += sum(decided)
            differences += sum(
                len(set(results)) > 1 for results in zip(decided, references, rows, formulas, strict=True)
            )
    engine.dispose()
    return cases, permitted, differences


def decisions_a_second() -> float:
    """Return the decisions in a second of processor time, by the shipped policies."""
    random, policies = Random(1), CompiledPolicies(read_policies())
    random_world = world(random)
    requests = [random_world.request(random) for _ in range(DECISIONS)]
    began = time.process_time()
    for request in requests:
        policies.decide(request)
    return DECISIONS / (time.process_time() - began)


def proof_seconds() -> float:
    """Return the processor time of all theorems about the shipped policies."""
    policies, theorems = read_policies(), read_theorems()
    began = time.process_time()
    assert all(result.holds for result in prove(policies, theorems))
    return time.process_time() - began


def figures() -> list[Figure]:
    """Return all figures."""
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(compare, range(CASES // RESOURCES // REQUESTS)))
    cases, permitted, differences = (sum(column) for column in zip(*results, strict=True))
    return [
        figure("random cases, decision = reference = SQL = SMT", "", cases, f">= {CASES}"),
        figure("of these permitted", "", permitted),
        figure("differences", "", differences, "<= 0"),
        figure("decisions", "1/s", decisions_a_second(), ">= 100000"),
        figure("24 theorems about the shipped policies", "s", min(proof_seconds() for _ in range(3)), "<= 1"),
    ]


if __name__ == "__main__":
    run(figures, __doc__)
