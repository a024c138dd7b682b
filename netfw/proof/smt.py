"""Encodes the kernel's listing of the table as formulas: the packets that each hook accepts.

A ruleset has no loops and, without statements that change packets, no memory except connection tracking and sets:
a chain is a function of the packet. It is encoded as three formulas: packets that it accepts, refuses, and returns to
the caller. After `jump`, returned packets continue with the next rule; after `goto` they return to the caller of the
chain itself, or get the base chain's policy.

An accept verdict ends only its base chain: the packet continues with other base chains of the hook, in this table and
in foreign ones. A hook therefore accepts what all of our base chains there accept. A foreign table cannot undo our
drop. Other effects of foreign tables, such as changing a packet after our chains, are detected by
`netfw.watch.surroundings`.

`limit` may match or not; the proof covers both. Whether an interface has more connections than a limit
(`ct count`) is also unknown, but consistent: the answer is the same in all rules, and more than 256 implies more than
100. `counter` and `log` have no effect. The elements of session sets change while the ruleset stays the same: such a
set is an uninterpreted predicate, and the proof holds for any open sessions. Unsupported content is refused
(Unproven), never skipped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

import z3

from netfw.model.values import RulesetError, bits
from netfw.proof.symbolic import PacketTerm, SymbolicPacket, Unproven
from netfw.proof.tries import Intervals
from netfw.ruleset.names import FAMILY, SESSIONS, TABLE
from netfw.ruleset.nft_json import IIFNAME

Json: TypeAlias = Any

HOOKS: Final = ("prerouting", "input", "forward", "output")
CONNTRACK_PRIORITY: Final = -200
"""NF_IP_PRI_CONNTRACK: in chains before it, connection tracking is not available."""

_NEITHER: Final = ("counter", "log")
_REFUSING: Final = ("drop", "reject")
_SET_KEYS: Final = {"family", "name", "table", "type", "handle", "elem", "map"} | {
    *("flags", "timeout", "gc-interval", "size", "policy", "comment", "auto-merge")
}
_SET_FLAGS: Final = {"interval", "timeout", "constant", "dynamic"}


class ChainOutcome(NamedTuple):
    """The effect of a chain on packets, as disjoint formulas; `through` are those returned to its caller."""

    accepted: z3.BoolRef
    refused: z3.BoolRef
    through: z3.BoolRef


class MembershipTest(NamedTuple):
    """A membership test in a session set."""

    name: str
    key: tuple[z3.BitVecRef, ...]
    answer: z3.BoolRef


@dataclass
class _Table:
    """The objects of a listing; rules are in the kernel's order."""

    chains: dict[str, Json] = field(default_factory=dict)
    rules: defaultdict[str, list[list[Json]]] = field(default_factory=lambda: defaultdict(list))
    sets: dict[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Iterable[Json]) -> _Table:
        """Sort the objects by kind. Raises: Unproven, for objects that the firewall's table never has."""
        table = cls()
        for each in objects:
            match each:
                case {"table": {"family": family, "name": name, **rest}}:
                    # a table with flags may be dormant: listed, but without effect
                    if (family, name) != (FAMILY, TABLE) or set(rest) - {"handle", "comment"}:
                        raise Unproven(each)
                case {"counter": _}:
                    pass
                case {"chain": {"name": name} as chain}:
                    table.chains[name] = chain
                case {"set": {"name": name} as named} | {"map": {"name": name} as named}:
                    _check_set(named)
                    table.sets[name] = {**named, "elem": list(named.get("elem", []))}
                # present in a ruleset that is to be applied
                case {"element": {"name": name, "elem": list(elements)}}:
                    table.sets[name]["elem"] += elements
                case {"rule": {"chain": chain, "expr": list(statements)}}:
                    table.rules[chain].append(statements)
                case _:
                    raise Unproven(each)
        return table


class RulesetFormulas:
    """The formulas of a listing, over one symbolic packet."""

    def __init__(self, objects: Iterable[Json], packet: SymbolicPacket) -> None:
        """`objects` as the kernel lists them: `{"chain": …}`, `{"rule": …}`, … Raises: Unproven."""
        self._table = _Table.of(objects)
        self.packet = packet
        self.asked: dict[int, MembershipTest] = {}
        """The membership tests in session sets, by the id of their answer."""
        self.counted: dict[int, z3.FuncDeclRef] = {}
        """For each connection limit in the rules: the predicate of interfaces that exceed it."""
        self._outcomes: dict[str, ChainOutcome] = {}
        self._hooks: dict[str, list[ChainOutcome]] = {hook: [] for hook in HOOKS}
        try:
            for name, chain in self._table.chains.items():
                if "hook" in chain:
                    self._hooks[_hook(chain)].append(self._base(name, chain))
        except RulesetError as error:
            raise error if isinstance(error, Unproven) else Unproven(error) from error

    def accepted(self, hook: str) -> z3.BoolRef:
        """Return the packets that all chains of the hook accept; all packets if there is no chain."""
        return z3.And([outcome.accepted for outcome in self._hooks[hook]])

    def session(self, name: str, key: Sequence[z3.BitVecRef]) -> z3.BoolRef:
        """Return whether the key is an open session: an unknown, the same for equal keys."""
        sorts = [value.sort() for value in key]
        answer = z3.Function(name, *sorts, z3.BoolSort())(*key)
        self.asked[answer.get_id()] = MembershipTest(name, tuple(key), answer)
        return answer

    def has_more_than(self, number: int, interface: z3.BitVecRef) -> z3.BoolRef:
        """Return whether an interface has more than `number` tracked connections: an unknown per interface."""
        if number not in self.counted:
            self.counted[number] = z3.Function(f"more than {number}", interface.sort(), z3.BoolSort())
        return self.counted[number](interface)

    def monotonic(self, interface: z3.BitVecRef) -> z3.BoolRef:
        """Return the formula that an interface which exceeds one number of connections exceeds all smaller ones."""
        numbers = sorted(self.counted)
        return z3.And(
            [
                z3.Implies(self.counted[more](interface), self.counted[less](interface))
                for less, more in pairwise(numbers)
            ]
        )

    def elements(self, name: str) -> list[tuple[Intervals, ...]]:
        """Return the rows of a named set as listed, one interval set per column."""
        named = self._table.sets.get(name)
        if named is None:
            raise Unproven(f"a reference to set {name!r}, which does not exist")
        kinds = named["type"] if isinstance(named["type"], list) else [named["type"]]
        return [self._row(element, kinds) for element in named["elem"]]

    def _base(self, name: str, chain: Json) -> ChainOutcome:
        if chain["prio"] <= CONNTRACK_PRIORITY and '"ct"' in str(self._reachable(name)).replace("'", '"'):
            raise Unproven(f"`ct` in chain {name!r}, which runs before connection tracking")
        accepted, refused, through = self._chain(name)
        if chain.get("policy", "accept") == "accept":
            return ChainOutcome(z3.Or(accepted, through), refused, z3.BoolVal(False))
        return ChainOutcome(accepted, z3.Or(refused, through), z3.BoolVal(False))

    def _reachable(self, name: str) -> list[Json]:
        rules: list[Json] = list(self._table.rules[name])
        targets: set[str] = set()
        _collect_targets(rules, targets)
        return [*rules, *(rule for target in targets for rule in self._reachable(target))]

    def _chain(self, name: str) -> ChainOutcome:
        if name not in self._outcomes:
            if name not in self._table.chains:
                raise Unproven(f"a jump to chain {name!r}, which does not exist")
            self._outcomes[name] = self._run(self._table.rules[name])
        return self._outcomes[name]

    def _run(self, rules: Iterable[list[Json]]) -> ChainOutcome:
        alive: z3.BoolRef = z3.BoolVal(True)
        accepted, refused, through = [], [], []
        for rule in rules:
            ended: list[z3.BoolRef] = []
            for condition, verdict in self._rule(rule):
                fires = z3.And(alive, condition)
                outcome, ends = self._verdict(verdict)
                accepted.append(z3.And(fires, outcome.accepted))
                refused.append(z3.And(fires, outcome.refused))
                if ends:
                    through.append(z3.And(fires, outcome.through))
                    ended.append(condition)
                else:
                    ended.append(z3.And(condition, z3.Not(outcome.through)))
            if ended:
                alive = z3.And(alive, z3.Not(z3.Or(ended)))
        return ChainOutcome(z3.Or(accepted), z3.Or(refused), z3.Or([*through, alive]))

    def _rule(self, statements: list[Json]) -> Iterator[tuple[z3.BoolRef, Json]]:
        """Yield the verdicts of a rule, with the packets that each applies to."""
        conditions: list[z3.BoolRef] = []
        for index, statement in enumerate(statements):
            match statement:
                case {"match": match}:
                    conditions.append(self._match(match))
                case {"limit": _}:
                    conditions.append(z3.FreshConst(z3.BoolSort(), "limit"))
                case {
                    "set": {"op": "add" | "update", "elem": key, "set": str(), "stmt": [state], **rest}
                } if not rest:
                    conditions.append(self._set_state(key, state))
                case {"vmap": {"key": key, "data": data}}:
                    verdicts = list(self._verdict_map(key, data))
                    if index + 1 < len(statements):
                        raise Unproven(f"{statements[index + 1]} after a verdict map")
                    yield from (
                        (z3.And([*conditions, condition]), verdict) for condition, verdict in verdicts
                    )
                case dict() if len(statement) == 1 and next(iter(statement)) in _NEITHER:
                    pass
                case {"continue": None}:
                    pass
                case _:
                    if index + 1 < len(statements):
                        raise Unproven(f"{statements[index + 1]} after {statement}")
                    yield z3.And(conditions), statement

    def _set_state(self, key: Json, state: Json) -> z3.BoolRef:
        """Return the formula of a state that a set keeps for the key: a rate, or a connection count."""
        (term,) = self._terms(key)
        match state:
            case {"limit": _}:
                return z3.And(term.valid, z3.FreshConst(z3.BoolSort(), "limit"))
            case {"ct count": {"val": int(number), **rest}} if key == IIFNAME:
                more = self.has_more_than(number, term.value)
                return z3.And(term.valid, more if rest.get("inv") else z3.Not(more))
        raise Unproven(state)

    def _verdict(self, verdict: Json) -> tuple[ChainOutcome, bool]:
        """Return the effect of a verdict, and whether it ends the chain for all packets."""
        yes, no = z3.BoolVal(True), z3.BoolVal(False)
        match verdict:
            case {"accept": None}:
                return ChainOutcome(yes, no, no), True
            case dict() if len(verdict) == 1 and next(iter(verdict)) in _REFUSING:
                return ChainOutcome(no, yes, no), True
            case {"return": None}:
                return ChainOutcome(no, no, yes), True
            case {"continue": None}:
                return ChainOutcome(no, no, yes), False
            case {"jump": {"target": target}}:
                return self._chain(target), False
            case {"goto": {"target": target}}:
                return self._chain(target), True
        raise Unproven(verdict)

    def _match(self, match: Json) -> z3.BoolRef:
        left, right, operator = match["left"], match["right"], match["op"]
        if set(match) != {"left", "right", "op"}:
            raise Unproven(match)
        terms = self._terms(left)
        valid = z3.And([term.valid for term in terms])
        if operator in ("==", "!="):
            equal = self._member(terms, right)
            return z3.And(valid, equal if operator == "==" else z3.Not(equal))
        if len(terms) > 1:
            raise Unproven(match)
        (_, value, kind) = terms[0]
        if operator == "in":
            return z3.And(valid, value & bits(kind, right) != 0)
        return z3.And(valid, self.packet.sets.member(value, self._compared(terms[0], operator, right, match)))

    def _compared(self, term: PacketTerm, operator: str, right: Json, match: Json) -> Intervals:
        first, last = self.packet.intervals(term.kind, right)[0]
        ends = {"<": (0, first - 1), "<=": (0, last), ">": (last + 1, -1), ">=": (first, -1)}
        if operator not in ends or term.kind == "ifname":
            raise Unproven(match)
        low, high = ends[operator]
        high = (1 << term.value.size()) - 1 if high == -1 and operator in (">", ">=") else high
        return ((low, high),) if low <= high else ()

    def _terms(self, expression: Json) -> list[PacketTerm]:
        if isinstance(expression, dict) and set(expression) == {"concat"}:
            return [self.packet.term(part) for part in expression["concat"]]
        return [self.packet.term(expression)]

    def _member(self, terms: list[PacketTerm], right: Json) -> z3.BoolRef:
        values, kinds = [term.value for term in terms], [term.kind for term in terms]
        if isinstance(right, str) and right.startswith("@"):
            name = right[1:]
            declared = self._table.sets.get(name, {}).get("type")
            if declared not in (kinds, kinds[0] if len(kinds) == 1 else kinds):
                raise Unproven(f"set {name!r} of type {declared} used with {kinds}")
            if name in SESSIONS.values():
                return self.session(name, values)
            return self.packet.sets.member_of_rows(values, self.elements(name))
        written = right["set"] if isinstance(right, dict) and set(right) == {"set"} else [right]
        return self.packet.sets.member_of_rows(values, [self._row(element, kinds) for element in written])

    def _row(self, element: Json, kinds: Sequence[str]) -> tuple[Intervals, ...]:
        if isinstance(element, dict) and set(element) == {"elem"}:
            rest = set(element["elem"]) - {"val", "timeout", "expires", "comment"}
            if rest:
                raise Unproven(element)
            element = element["elem"]["val"]
        if len(kinds) == 1:
            return (self.packet.intervals(kinds[0], element),)
        match element:
            case {"concat": list(parts)} if len(parts) == len(kinds):
                return tuple(self.packet.intervals(k, part) for k, part in zip(kinds, parts, strict=True))
        raise Unproven(element)

    def _verdict_map(self, key: Json, data: Json) -> Iterator[tuple[z3.BoolRef, Json]]:
        terms = self._terms(key)
        kinds = [term.kind for term in terms]
        valid = z3.And([term.valid for term in terms])
        match data:
            case {"set": list(pairs)}:
                pass
            case str() if data.startswith("@"):
                named = self._table.sets.get(data[1:], {})
                declared = named.get("type")
                if declared not in (kinds, kinds[0] if len(kinds) == 1 else kinds):
                    raise Unproven(f"map {data} of type {declared} used with {kinds}")
                pairs = named.get("elem", [])
            case _:
                raise Unproven(data)
        for element, verdict in pairs:
            row = self._row(element, kinds)
            yield (
                z3.And(valid, self.packet.sets.member_of_rows([term.value for term in terms], [row])),
                verdict,
            )


def _hook(chain: Json) -> str:
    if chain["hook"] not in HOOKS or chain["type"] != "filter" or chain["family"] != FAMILY:
        raise Unproven(f"a base chain of type {chain['type']} at {chain['hook']}")
    return str(chain["hook"])


def _check_set(named: Json) -> None:
    flags = named.get("flags", [])
    unknown = set(named) - _SET_KEYS or set(flags if isinstance(flags, list) else [flags]) - _SET_FLAGS
    if unknown or named.get("map", "verdict") != "verdict":
        raise Unproven({key: named[key] for key in named if key != "elem"})


def _collect_targets(json: Json, targets: set[str]) -> None:
    match json:
        case {"jump": {"target": target}} | {"goto": {"target": target}}:
            targets.add(target)
        case list():
            for part in json:
                _collect_targets(part, targets)
        case dict():
            for part in json.values():
                _collect_targets(part, targets)
