"""Model of a ruleset: evaluates packets against libnftables JSON, as rendered or as listed by the kernel.

A ruleset is compiled once: each match becomes a closure, each chain a list of rules. `RulesetModel.evaluate` then
runs the base chains of one hook as nf_tables does: in order of priority; `accept` ends a chain and continues with the
next one, `drop` ends the evaluation; a match on a field that the packet lacks ends the rule. Unsupported content is
refused at compile time, never skipped.

Connection tracking is in `netfw.model.conntrack`; `netfw.model.packet_filter` combines the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from netfw.model.packet import Packet
from netfw.model.sets import NEVER_NS, ModelSet, anonymous
from netfw.model.values import (
    ConnectionFields,
    Field,
    Json,
    RulesetError,
    Scalar,
    Tracking,
    Typed,
    Value,
    bits,
    literal,
)
from netfw.model.values import field as known_field

Hook: TypeAlias = Literal["prerouting", "input", "forward", "output", "postrouting"]
Action: TypeAlias = Literal["accept", "drop", "reject"]
Test: TypeAlias = Callable[[Packet, Tracking, int], bool]

PRIORITIES: Final = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
CONNTRACK: Final = -200
"""Priority of connection tracking: chains before it see every packet as untracked."""


class PacketVerdict(NamedTuple):
    """The result for a packet, the named counters that it incremented, in order, and the last hook it reached."""

    action: Action
    counters: tuple[str, ...] = ()
    hook: Hook = "prerouting"

    @property
    def cause(self) -> str | None:
        """The counter that shows why it was refused."""
        return self.counters[-1] if self.counters and self.action != "accept" else None


class _Jump(NamedTuple):
    chain: str
    returns: bool


class _Return(NamedTuple):
    pass


_Outcome: TypeAlias = "Action | _Jump | _Return | None"


class _Decide(NamedTuple):
    """A verdict map."""

    key: Field
    verdicts: ModelSet


class _Rule(NamedTuple):
    """All tests must hold; then the packet is counted, and has an outcome or continues with the next rule."""

    tests: tuple[Test, ...]
    counted: str | None
    decide: _Decide | None
    outcome: _Outcome


@dataclass(slots=True)
class _Chain:
    rules: list[_Rule] = field(default_factory=list)
    hook: str | None = None
    priority: int = 0
    policy: Action = "accept"


class RulesetModel:
    """The tables of a ruleset, compiled. All methods that take JSON raise RulesetError."""

    def __init__(self, ruleset: Json = ()) -> None:
        """`ruleset`: libnftables' {"nftables": […]}, or the list in it; commands, or objects as listed."""
        self._chains: dict[tuple[str, str], _Chain] = {}
        self._sets: dict[tuple[str, str], ModelSet] = {}
        self._maps: dict[tuple[str, str], ModelSet] = {}
        self._counters: dict[str, None] = {}
        self._hooks: dict[str, list[tuple[int, str, _Chain]]] = {}
        for command in ruleset["nftables"] if isinstance(ruleset, dict) else ruleset:
            self._take(command)
        self._check()

    @property
    def counters(self) -> tuple[str, ...]:
        """Return the names of the counters."""
        return tuple(self._counters)

    def set(self, name: str) -> ModelSet:
        """Return a named set of the table "rap", to add and remove elements. Raises: KeyError."""
        return self._sets["rap", name]

    def next_timeout_ns(self, now_ns: int) -> int:
        """Return when the next element of any set times out; NEVER_NS if none does."""
        return min((each.next_timeout_ns(now_ns) for each in self._sets.values()), default=NEVER_NS)

    def evaluate(
        self,
        hook: Hook,
        packet: Packet,
        tracking: Tracking,
        now_ns: int = 0,
        *,
        above: int = -(1 << 31),
        below: int = 1 << 31,
    ) -> PacketVerdict:
        """Run the hook's base chains with `above` <= priority < `below`."""
        counters: list[str] = []
        for priority, table, chain in self._hooks.get(hook, ()):
            if above <= priority < below:
                action = self._run(table, chain, packet, tracking, now_ns, counters)
                if action != "accept":
                    return PacketVerdict(action, tuple(counters), hook)
        return PacketVerdict("accept", tuple(counters), hook)

    def _run(
        self, table: str, base: _Chain, packet: Packet, tracking: Tracking, now_ns: int, counters: list[str]
    ) -> Action:
        callers: list[Iterator[_Rule]] = []
        rules = iter(base.rules)
        while True:
            outcome = _first(rules, packet, tracking, now_ns, counters)
            if isinstance(outcome, str):
                return outcome
            if isinstance(outcome, _Jump):
                if outcome.returns:
                    callers.append(rules)
                rules = iter(self._chains[table, outcome.chain].rules)
            elif callers:
                rules = callers.pop()
            else:
                return base.policy

    # Compiling

    def _take(self, command: Json) -> None:
        match command:
            case {"metainfo": _}:
                pass
            case {"add": definition} | {"create": definition}:
                self._add(definition)
            case {"flush": {"set": {"table": table, "name": name}}}:
                self._sets[table, name].clear()
            case {"flush": {"chain": {"table": table, "name": name}}}:
                self._chains[table, name].rules.clear()
            case {"delete": {"table": {"name": name}}}:
                self._forget(name)
            case _:
                self._add(command)

    def _forget(self, table: str) -> None:
        objects: Json
        for objects in (self._chains, self._sets, self._maps):
            for key in [key for key in objects if key[0] == table]:
                del objects[key]
        for hook, chains in self._hooks.items():
            self._hooks[hook] = [entry for entry in chains if entry[1] != table]

    def _add(self, definition: Json) -> None:
        match definition:
            case {"table": {"family": "inet", "name": str()}}:
                pass
            case {"counter": {"name": str(name)}}:
                self._counters[name] = None
            case {"set": {"table": str(table), "name": str(name), "type": kind}}:
                named_set = self._sets.setdefault(
                    (table, name), ModelSet((kind,) if isinstance(kind, str) else tuple(kind))
                )
                for element in definition["set"].get("elem", ()):
                    named_set.add(element)
            case {"map": {"table": str(table), "name": str(name), "type": kind, "map": "verdict"}}:
                named_map = self._maps.setdefault(
                    (table, name), ModelSet((kind,) if isinstance(kind, str) else tuple(kind))
                )
                for key, verdict in definition["map"].get("elem", ()):
                    named_map.add(key, _verdict(verdict))
            case {"element": {"table": str(table), "name": str(name), "elem": [*elements]}}:
                for element in elements:
                    self._sets[table, name].add(element)
            case {"chain": {"family": "inet", "table": str(table), "name": str(name)}}:
                self._add_chain(table, name, definition["chain"])
            case {
                "rule": {"family": "inet", "table": str(table), "chain": str(chain), "expr": [*statements]}
            }:
                self._chains[table, chain].rules.append(self._rule(table, statements))
            case _:
                raise RulesetError(f"{definition!r} is not modelled")

    def _add_chain(self, table: str, name: str, rest: Json) -> None:
        if (table, name) in self._chains:
            return
        chain = self._chains[table, name] = _Chain()
        match rest:
            case {"type": "filter", "hook": str(hook), "prio": priority}:
                chain.hook, chain.policy = hook, rest.get("policy", "accept")
                chain.priority = PRIORITIES[priority] if isinstance(priority, str) else priority
                self._hooks.setdefault(hook, []).append((chain.priority, table, chain))
                self._hooks[hook].sort(key=lambda entry: entry[0])
            case {"type": kind}:
                raise RulesetError(f"chain {name} of type {kind} is not modelled")

    def _rule(self, table: str, statements: Iterable[Json]) -> _Rule:
        """Compile a rule: tests first, then at most one named counter, then at most one verdict."""
        tests: list[Test] = []
        count: str | None = None
        decide: _Decide | None = None
        outcome: _Outcome = None
        limited = False
        for statement in statements:
            if outcome is not None or decide is not None:
                raise RulesetError(f"{statement!r} follows a verdict")
            match statement:
                case {"match": comparison}:
                    if count is not None:
                        raise RulesetError(f"{statement!r} follows a counter")
                    tests.append(self._match(table, comparison))
                case {"limit": _} | {"set": {"stmt": [{"limit": _}]}}:
                    limited = True
                case {
                    "set": {
                        "op": "add",
                        "elem": key,
                        "stmt": [{"ct count": {"val": int(limit), "inv": True}}],
                    }
                }:
                    tests.append(_more_connections(_key(key)[0], limit))
                case {"log": _} | {"counter": None} | {"counter": {"packets": _}}:
                    pass
                case _ if limited:
                    raise RulesetError(f"{statement!r} follows a limit: its effect would depend on time")
                case {"counter": str(name)}:
                    if name not in self._counters:
                        raise RulesetError(f"there is no counter {name!r}")
                    count = name
                case {"vmap": {"key": key, "data": data}}:
                    decide = self._verdict_map(table, key, data)
                case _:
                    outcome = _verdict(statement)
        return _Rule(tuple(tests), count, decide, outcome)

    def _match(self, table: str, comparison: Json) -> Test:
        match comparison:
            case {"op": str(op), "left": {"&": [left, mask]}, "right": right}:
                typed = known_field(left)
                return _masked(typed.field, op, bits(typed.kind, mask), bits(typed.kind, right))
            case {"op": "in", "left": left, "right": right}:
                typed = known_field(left)
                return _masked(typed.field, "in", bits(typed.kind, right), 0)
            case {"op": "==" | "!=" as op, "left": left, "right": str(name)} if name.startswith("@"):
                if (table, name[1:]) not in self._sets:
                    raise RulesetError(f"there is no set {name[1:]!r}")
                return _member(_key(left)[0], self._sets[table, name[1:]], op == "==")
            case {"op": "==" | "!=" as op, "left": left, "right": {"set": elements}}:
                key, kinds = _key(left)
                written = elements if isinstance(elements, list) else [elements]
                return _member(key, anonymous(kinds, written), op == "==")
            case {"op": "==" | "!=" as op, "left": left, "right": ({"range": _} | {"prefix": _}) as right}:
                key, kinds = _key(left)
                return _member(key, anonymous(kinds, [right]), op == "==")
            case {"op": "==" | "!=" | "<" | ">" | "<=" | ">=" as op, "left": left, "right": right}:
                typed = known_field(left)
                return _compared(typed, op, literal(typed.kind, right))
        raise RulesetError(f"match {comparison!r} is not modelled")

    def _verdict_map(self, table: str, key: Json, data: Json) -> _Decide:
        chosen, kinds = _key(key)
        if isinstance(data, str):
            if (table, data.removeprefix("@")) not in self._maps:
                raise RulesetError(f"there is no map {data!r}")
            return _Decide(chosen, self._maps[table, data.removeprefix("@")])
        verdicts = ModelSet(kinds)
        for value, verdict in data["set"]:
            verdicts.add(value, _verdict(verdict))
        return _Decide(chosen, verdicts)

    def _check(self) -> None:
        """Check that every target chain exists."""
        for (table, name), chain in self._chains.items():
            for rule in chain.rules:
                if isinstance(rule.outcome, _Jump) and (table, rule.outcome.chain) not in self._chains:
                    raise RulesetError(
                        f"chain {name} refers to chain {rule.outcome.chain!r}, which does not exist"
                    )


def _first(
    rules: Iterator[_Rule], packet: Packet, tracking: Tracking, now_ns: int, counters: list[str]
) -> Action | _Jump | _Return:
    """Return the first outcome of the remaining rules."""
    for tests, count, decide, outcome in rules:
        for test in tests:
            if not test(packet, tracking, now_ns):
                break
        else:
            if count is not None:
                counters.append(count)
            if decide is not None:
                value = decide.key(packet, tracking)
                outcome = None if value is None else decide.verdicts.find(value, now_ns)
            if outcome is not None:
                return outcome
    return _Return()


def _verdict(statement: Json) -> _Outcome:
    match statement:
        case {"accept": None}:
            return "accept"
        case {"drop": None}:
            return "drop"
        case {"reject": _}:
            return "reject"
        case {"return": None}:
            return _Return()
        case {"continue": None}:
            return None
        case {"jump": {"target": str(chain)}}:
            return _Jump(chain, returns=True)
        case {"goto": {"target": str(chain)}}:
            return _Jump(chain, returns=False)
    raise RulesetError(f"statement {statement!r} is not modelled")


def _key(expression: Json) -> tuple[Field, tuple[str, ...]]:
    """Return a field, or several joined, which are missing if one of them is."""
    match expression:
        case {"concat": [*parts]}:
            typed = [known_field(part) for part in parts]
            return _joined([part.field for part in typed]), tuple(part.kind for part in typed)
    single = known_field(expression)
    return single.field, (single.kind,)


def _joined(fields: list[Field]) -> Field:
    def joined(packet: Packet, tracking: Tracking) -> tuple[Scalar, ...] | None:
        values: Json = tuple([part(packet, tracking) for part in fields])
        return None if None in values else values

    return joined


def _member(key: Field, members: ModelSet, wanted: bool) -> Test:
    def test(packet: Packet, tracking: Tracking, now_ns: int) -> bool:
        value = key(packet, tracking)
        return value is not None and (members.find(value, now_ns) is not None) is wanted

    return test


def _masked(value_of: Field, op: str, mask: int, right: int) -> Test:
    def test(packet: Packet, tracking: Tracking, _: int) -> bool:
        value: Json = value_of(packet, tracking)
        return value is not None and ((value & mask) == right) is (op == "==")

    def any_bit(packet: Packet, tracking: Tracking, _: int) -> bool:
        value: Json = value_of(packet, tracking)
        return value is not None and value & mask != 0

    if op not in ("in", "==", "!="):
        raise RulesetError(f"operator {op!r} with a mask is not modelled")
    return any_bit if op == "in" else test


def _more_connections(key: Field, limit: int) -> Test:
    """Return a test of whether more than `limit` connections have the packet's key: nft's `ct count over`."""
    known: dict[Value, list[ConnectionFields]] = {}

    def test(packet: Packet, tracking: Tracking, now_ns: int) -> bool:
        value, connection = key(packet, tracking), tracking.connection
        if value is None:
            return False
        alive = [each for each in known.get(value, ()) if each.confirmed and each.expires_ns > now_ns]
        if connection is not None and not any(each is connection for each in alive):
            alive.append(connection)
        known[value] = alive
        return len(alive) > limit

    return test


_COMPARISONS: Final[dict[str, Callable[[Json, Json], bool]]] = {
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
}


def _compared(typed: Typed, op: str, right: Scalar) -> Test:
    value_of, compare = typed.field, _COMPARISONS[op]
    if op == "==":
        return lambda packet, tracking, _: value_of(packet, tracking) == right

    def test(packet: Packet, tracking: Tracking, _: int) -> bool:
        value = value_of(packet, tracking)
        return value is not None and compare(value, right)

    return test
