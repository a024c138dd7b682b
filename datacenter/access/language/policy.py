"""A policy, and the set of policies that apply to each action and resource type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from datacenter.access.language.expression import FALSE, Condition, specialize
from datacenter.access.vocabulary import PAIRS

Effect: TypeAlias = Literal["permit", "forbid"]
Pair: TypeAlias = tuple[str, str]
"""An action and a type of its resources."""


@dataclass(frozen=True)
class AccessPolicy:
    """A policy, which permits or forbids requests that meet its condition.

    `id` and `reason` are its annotations `@id` and `@reason`; `text` is the Cedar text at `line` of `file`.
    """

    id: str
    effect: Effect
    reason: str
    condition: Condition
    text: str
    file: Path
    line: int


@dataclass(frozen=True)
class PolicySet:
    """Checked policies. A request is permitted if a policy permits it and none forbids it."""

    policies: tuple[AccessPolicy, ...]

    @property
    def text(self) -> str:
        """The Cedar text of all policies."""
        return "\n".join(policy.text for policy in self.policies)

    @cached_property
    def applicable(self) -> dict[Pair, Applicable]:
        """The policies that can apply to each action and resource type, with their conditions simplified for it."""
        return {pair: applicable(self.policies, pair) for pair in PAIRS}


@dataclass(frozen=True)
class Applicable:
    """The policies for one action and one type of resources, each with its condition."""

    forbids: tuple[tuple[AccessPolicy, Condition], ...]
    permits: tuple[tuple[AccessPolicy, Condition], ...]


def applicable(policies: Sequence[AccessPolicy], pair: Pair) -> Applicable:
    """Select the policies for an action and a resource type. Raises: ConditionTypeError."""
    simple = [(policy, specialize(policy.condition, *pair)) for policy in policies]
    possible = [(policy, condition) for policy, condition in simple if condition != FALSE]
    return Applicable(
        tuple(each for each in possible if each[0].effect == "forbid"),
        tuple(each for each in possible if each[0].effect == "permit"),
    )
