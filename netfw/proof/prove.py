"""Proves that the kernel's ruleset enforces the policy, for every possible packet.

For each theorem (`netfw.proof.theorems`), z3 searches for a refuting packet among all packets that the kernel can
present to the hook (`netfw.proof.symbolic`), through the rules as listed by the kernel (`netfw.proof.smt`). If there
is none, the theorem is proved; otherwise the result is a packet that can be sent.

The last theorem is that the listing is the policy's ruleset. If it is written differently, z3 decides whether the
difference affects any packet.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import z3

from netfw.policy.policy import Policy
from netfw.proof.counterexample import Counterexample, counterexample
from netfw.proof.smt import HOOKS, RulesetFormulas
from netfw.proof.symbolic import SymbolicPacket
from netfw.proof.theorems import Theorem, Theorems
from netfw.ruleset import listing
from netfw.ruleset.nft_json import Json
from netfw.ruleset.render import render

SAME = "ruleset"
"""The name of the theorem that the listing is the policy's ruleset."""
_PATHS = {"prerouting": "arriving", "input": "in", "forward": "through", "output": "out"}


@dataclass(frozen=True, slots=True)
class ProofFinding:
    """The result for one theorem."""

    name: str
    statement: str
    holds: bool
    seconds: float
    counterexample: Counterexample | None = None
    notes: tuple[str, ...] = ()
    """Differences in wording between the listing and the policy's ruleset."""

    def __str__(self) -> str:
        """Format one line for the theorem, and one line each for the packet and the notes."""
        lines = [f"{'✓' if self.holds else '✗'} {self.name:<12} {self.statement} ({self.seconds:.2f} s)"]
        lines += [f"    {self.counterexample}"] if self.counterexample else []
        return "\n".join(lines + [f"    {note}" for note in self.notes])

    def summary(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        packet = asdict(self.counterexample) if self.counterexample else None
        text_and_fields = (
            {"text": str(self.counterexample), **json.loads(json.dumps(packet, default=str))}
            if packet
            else None
        )
        return {
            "name": self.name,
            "says": self.statement,
            "holds": self.holds,
            "seconds": round(self.seconds, 3),
            "counterexample": text_and_fields,
            "notes": list(self.notes),
        }


def proof_document(
    policy: str, findings: Sequence[ProofFinding], assumed: Sequence[str], not_covered: Sequence[str]
) -> dict[str, Any]:
    """Return the results as JSON, as `rap fw prove --json` prints them."""
    return {
        "policy": policy,
        "holds": all(finding.holds for finding in findings),
        "theorems": [finding.summary() for finding in findings],
        "assumed": assumed,
        "not_covered": not_covered,
    }


def prove(policy: Policy, objects: Iterable[Json], only: str = "") -> Iterator[ProofFinding]:
    """Decide each theorem, or `only` the one with that name. `objects` are as listed by the kernel.

    Raises: netfw.proof.symbolic.Unproven.
    """
    objects = list(objects)
    packet = SymbolicPacket()
    packet.interfaces.number("lo")
    ruleset = RulesetFormulas(objects, packet)
    claims = Theorems(policy, ruleset)
    theorems = list(
        claims.all()
    )  # creates all membership tests in session sets, on which the assumption depends
    premises = z3.And(packet.guarantees(), claims.assumption())
    for theorem in theorems:
        if only in ("", theorem.name):
            yield _decide(theorem, policy, ruleset, premises)
    if only in ("", SAME):
        yield _decide_equality(policy, objects, ruleset)


def _decide(theorem: Theorem, policy: Policy, ruleset: RulesetFormulas, premises: z3.BoolRef) -> ProofFinding:
    began = time.perf_counter()
    refutation = _search(theorem.refuting, theorem.path, policy, ruleset, premises)
    seconds = time.perf_counter() - began
    return ProofFinding(theorem.name, theorem.statement, refutation is None, seconds, refutation)


def _search(
    refuting: z3.BoolRef, path: str, policy: Policy, ruleset: RulesetFormulas, premises: z3.BoolRef
) -> Counterexample | None:
    solver = z3.Solver()
    # one conjunct at a time: z3 then simplifies with the known ones first
    solver.add(premises, *(refuting.children() if z3.is_and(refuting) else [refuting]))
    model = ruleset.packet.sets.search(solver)
    if model is None:
        return None
    return counterexample(solver, model, ruleset.packet, policy, path, ruleset.asked.values())


def _decide_equality(policy: Policy, objects: list[Json], ruleset: RulesetFormulas) -> ProofFinding:
    began = time.perf_counter()
    statement = "the kernel has the policy's ruleset, or an equivalent one"
    rendered = render(policy)
    notes = tuple(listing.differences(listing.of_ruleset(rendered), listing.of_objects(objects)))
    refutation = None
    if notes:
        wanted = RulesetFormulas([*rendered.declarations(), *rendered.contents()], ruleset.packet)
        premises = ruleset.packet.guarantees()
        for hook in HOOKS:
            differs = z3.Xor(ruleset.accepted(hook), wanted.accepted(hook))
            refutation = refutation or _search(differs, _PATHS[hook], policy, ruleset, premises)
    seconds = time.perf_counter() - began
    return ProofFinding(SAME, statement, refutation is None, seconds, refutation, notes)
