"""Proof that what the kernel lists does what the policy says, for every packet there is.

Each theorem (`netfw.proof.theorems`) is refuted by some packet or by none; z3 searches for one among all
packets that the kernel can show to the hook (`netfw.proof.symbolic`), through the rules as the kernel lists them
(`netfw.proof.smt`). That nothing is found is a proof; what is found is a packet that anybody can send.

The last theorem says that the listing is the policy's ruleset. Where it is written otherwise, z3 says whether that
makes a difference to any packet.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import z3

from netfw.policy.policy import Policy
from netfw.proof.counterexample import Counterexample, counterexample
from netfw.proof.smt import HOOKS, RulesetFormulas
from netfw.proof.symbolic import Symbol
from netfw.proof.theorems import Theorem, Theorems
from netfw.ruleset import listing
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import render

SAME = "ruleset"
"""The name of the theorem that the listing is the policy's ruleset."""
_WAYS = {"prerouting": "arriving", "input": "in", "forward": "through", "output": "out"}


@dataclass(frozen=True, slots=True)
class ProofFinding:
    """What became of a theorem."""

    name: str
    says: str
    holds: bool
    seconds: float
    counterexample: Counterexample | None = None
    notes: tuple[str, ...] = ()
    """How the listing is written otherwise than the policy's ruleset."""

    def __str__(self) -> str:
        """A line, and a line each for the packet and the notes."""
        lines = [f"{'✓' if self.holds else '✗'} {self.name:<12} {self.says} ({self.seconds:.2f} s)"]
        lines += [f"    {self.counterexample}"] if self.counterexample else []
        return "\n".join(lines + [f"    {note}" for note in self.notes])

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        packet = asdict(self.counterexample) if self.counterexample else None
        words = (
            {"text": str(self.counterexample), **json.loads(json.dumps(packet, default=str))}
            if packet
            else None
        )
        return {
            "name": self.name,
            "says": self.says,
            "holds": self.holds,
            "seconds": round(self.seconds, 3),
            "counterexample": words,
            "notes": list(self.notes),
        }


def prove(policy: Policy, objects: Iterable[Json], only: str = "") -> Iterator[ProofFinding]:
    """Each theorem, or `only` that of this name, as it is decided. `objects` as the kernel lists them.

    Raises: netfw.proof.symbolic.Unproven.
    """
    objects = list(objects)
    packet = Symbol()
    packet.interfaces.number("lo")
    ruleset = RulesetFormulas(objects, packet)
    claims = Theorems(policy, ruleset)
    theorems = list(
        claims.all()
    )  # which makes all questions to the session sets, and so all of the assumption
    premises = z3.And(packet.guarantees(), claims.assumption())
    for theorem in theorems:
        if only in ("", theorem.name):
            yield _decide(theorem, policy, ruleset, premises)
    if only in ("", SAME):
        yield _is_the_policys(policy, objects, ruleset)


def _decide(theorem: Theorem, policy: Policy, ruleset: RulesetFormulas, premises: z3.BoolRef) -> ProofFinding:
    began = time.perf_counter()
    found = _search(theorem.refuting, theorem.way, policy, ruleset, premises)
    return ProofFinding(theorem.name, theorem.says, found is None, time.perf_counter() - began, found)


def _search(
    refuting: z3.BoolRef, way: str, policy: Policy, ruleset: RulesetFormulas, premises: z3.BoolRef
) -> Counterexample | None:
    solver = z3.Solver()
    # the parts one by one: z3 then puts in what is certain, before it looks into anything
    solver.add(premises, *(refuting.children() if z3.is_and(refuting) else [refuting]))
    model = ruleset.packet.sets.search(solver)
    if model is None:
        return None
    return counterexample(solver, model, ruleset.packet, policy, way, ruleset.asked.values())


def _is_the_policys(policy: Policy, objects: list[Json], ruleset: RulesetFormulas) -> ProofFinding:
    began = time.perf_counter()
    says = "the kernel has the policy's ruleset, or one that does the same"
    rendered = render(policy)
    notes = tuple(listing.differences(listing.of_ruleset(rendered), listing.of_objects(objects)))
    found = None
    if notes:
        wanted = RulesetFormulas([*rendered.declarations(), *rendered.contents()], ruleset.packet)
        premises = ruleset.packet.guarantees()
        for hook in HOOKS:
            differs = z3.Xor(ruleset.accepted(hook), wanted.accepted(hook))
            found = found or _search(differs, _WAYS[hook], policy, ruleset, premises)
    return ProofFinding(SAME, says, found is None, time.perf_counter() - began, found, notes)
