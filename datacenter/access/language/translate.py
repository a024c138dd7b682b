"""Translates the syntax tree of the Cedar parser into the tree of `datacenter.access.language.expression`.

Constructs outside that tree, and unknown names, are mistakes: each is reported with a correction, and with the
token by which `datacenter.access.language.policyfile` finds the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from cedarpy import pst

from datacenter.access.language.expression import (
    ACTION,
    FALSE,
    PRINCIPAL,
    RESOURCE,
    TRUE,
    Condition,
    Constant,
    ConstantSet,
    Contains,
    HasType,
    Negation,
    Operand,
    Present,
    Reference,
    Relation,
    Trained,
    TrainingExpiry,
    Within,
    conjunction,
    disjunction,
    negate,
)
from datacenter.access.vocabulary import (
    ACTIONS,
    CONTEXT,
    ENUMS,
    EVERYWHERE,
    GROUPS,
    KINDS,
    LEVELS,
    OPTIONAL,
    RECORDS,
    STAFF,
)
from settings.toml import nearest

ENTITY_TYPES: Final = ("Staff", "Location", "Action", *ENUMS, *KINDS)
_VARIABLES: Final = {"principal": PRINCIPAL, "resource": RESOURCE, "action": ACTION}
_SIGNS: Final = {"less": "<", "less_eq": "<=", "greater": ">", "greater_eq": ">="}
_WORDS: Final = {"add": "+", "sub": "-", "mul": "*", "is_empty": "isEmpty"}


class Mistake(Exception):
    """A mistake in a policy. `word` is the text of the file at the position of the mistake."""

    def __init__(self, message: str, word: str = "") -> None:
        super().__init__(message)
        self.word = word


def translate(template: pst.Template, report: Callable[[Mistake], None]) -> Condition:
    """Return the condition under which a policy applies: its scope and its clauses. `report` gets each mistake."""
    parts: list[Condition] = []

    def add(translated: Callable[[], Condition]) -> None:
        try:
            parts.append(translated())
        except Mistake as mistake:
            report(mistake)

    for variable, scope in ((PRINCIPAL, template.principal), (RESOURCE, template.resource)):
        add(lambda variable=variable, scope=scope: _scope(variable, scope))  # type: ignore[misc]
    add(lambda: _action_scope(template.action))
    for clause in template.clauses:
        add(lambda clause=clause: _clause(clause, report))  # type: ignore[misc]
    return conjunction([part for part in parts if part != TRUE])


def _clause(clause: pst.Clause, report: Callable[[Mistake], None]) -> Condition:
    condition = _Translator(report).condition(clause.expr)
    return negate(condition) if isinstance(clause, pst.Unless) else condition


def _scope(variable: Reference, scope: pst.PrincipalOrResourceConstraint) -> Condition:
    match scope:
        case pst.ScopeEq(pst.EntityUid() as uid):
            return Relation("==", variable, _entity(uid))
        case pst.ScopeIn(pst.EntityUid() as uid):
            return _within(variable, ConstantSet((_entity(uid),)))
        case pst.ScopeIs(kind):
            return _has_type(variable, kind)
        case pst.ScopeIsIn(kind, pst.EntityUid() as uid):
            return conjunction([_has_type(variable, kind), _within(variable, ConstantSet((_entity(uid),)))])
        case pst.ScopeAny():
            return TRUE
    raise Mistake("is a template; write the name of an entity instead of the slot", "?")


def _action_scope(scope: pst.ActionConstraint) -> Condition:
    match scope:
        case pst.ActionEq(uid):
            return Relation("==", ACTION, _entity(uid))
        case pst.ActionIn(uids):
            return Within(ACTION, ConstantSet(tuple(_entity(uid) for uid in uids)))
    return TRUE


def _has_type(variable: Reference, kind: pst.EntityType) -> Condition:
    name = str(kind)
    if name not in ENTITY_TYPES:
        raise Mistake(f"unknown type `{name}`: {nearest(name, list(ENTITY_TYPES))}", name)
    if variable.root == "resource":
        return HasType(name)
    return Constant(name == variable.type, "Bool")


def _entity(uid: pst.EntityUid) -> Constant:
    kind = str(uid.type)
    if kind not in ENTITY_TYPES:
        raise Mistake(f"unknown type `{kind}`: {nearest(kind, list(ENTITY_TYPES))}", kind)
    known = [*ACTIONS, *GROUPS] if kind == "Action" else list(ENUMS.get(kind, ()))
    if known and uid.id not in known:
        raise Mistake(f'unknown {kind.lower()} "{uid.id}": {nearest(uid.id, known)}', f'"{uid.id}"')
    level, _, name = uid.id.partition("/")
    if kind == "Location" and uid.id != EVERYWHERE and (level not in LEVELS or not name):
        expected = f'"{EVERYWHERE}", ' + ", ".join(f'"{level}/…"' for level in LEVELS)
        raise Mistake(f'"{uid.id}" is not a location: it must be one of {expected}', f'"{uid.id}"')
    return Constant(uid.id, kind)


def _within(element: Reference, groups: Reference | ConstantSet) -> Condition:
    kinds = {groups.type.removeprefix("Set<").rstrip(">")} if isinstance(groups, Reference) else None
    types = kinds or {item.type for item in groups.items}  # type: ignore[union-attr]
    if element in (PRINCIPAL, RESOURCE, ACTION):
        expected = {"principal": {"Role", "Staff"}, "resource": {"Location", *KINDS}, "action": {"Action"}}[
            element.root
        ]
        if wrong := types - expected:
            raise Mistake(
                f"`{element} in` needs {_either(expected - set(KINDS))}, not {_either(wrong)}",
                f"{element.root} in",
            )
        if isinstance(groups, Reference) and not groups.type.startswith("Set"):
            return Relation("==", element, groups)
        return Within(element, groups)
    if isinstance(groups, ConstantSet) and types <= {element.type} and element.type != "Action":
        return disjunction([Relation("==", element, item) for item in groups.items])
    raise Mistake(
        f"`{element} in` is not supported: the groups of an attribute are not known; use `==`",
        element.names[-1],
    )


def _either(words: set[str]) -> str:
    return " or ".join(sorted(words))


class _Translator:
    """Translates one expression. Independent mistakes of `&&` and `||` are all reported."""

    def __init__(self, report: Callable[[Mistake], None]) -> None:
        self._report = report

    def condition(self, node: pst.Expr) -> Condition:
        """Translate a condition."""
        match node:
            case pst.BoolLit(value):
                return Constant(value, "Bool")
            case pst.BinaryOp("and", left, right):
                return conjunction([self._part(left), self._part(right)])
            case pst.BinaryOp("or", left, right):
                return disjunction([self._part(left), self._part(right)])
            case pst.UnaryOp("not", inner):
                return negate(self.condition(inner))
            case pst.IfThenElse(test, then, otherwise):
                first, second, third = map(self._part, (test, then, otherwise))
                return disjunction([conjunction([first, second]), conjunction([negate(first), third])])
            case pst.BinaryOp():
                return self._binary(node)
            case pst.HasAttr(base, names):
                return self._present(base, names)
            case pst.Is(base, kind, inside):
                return self._is(base, kind, inside)
        operand = self._operand(node)
        if isinstance(operand, Reference) and operand.type == "Bool":
            return operand
        raise Mistake("is not a condition, which would be true or false", _word(node))

    def _part(self, node: pst.Expr) -> Condition:
        try:
            return self.condition(node)
        except Mistake as mistake:
            self._report(mistake)
            return FALSE

    def _binary(self, node: pst.BinaryOp) -> Condition:
        match node:
            case pst.BinaryOp("eq", left, right):
                return self._equal(left, right)
            case pst.BinaryOp("not_eq", left, right):
                return negate(self._equal(left, right))
            case pst.BinaryOp("less" | "less_eq" | "greater" | "greater_eq" as name, left, right):
                sides = self._operand(left), self._operand(right)
                first, second = sides if name.startswith("less") else sides[::-1]
                return Relation("<=" if name.endswith("eq") else "<", first, second)
            case pst.BinaryOp("has_tag", pst.Var("principal"), key):
                return Trained(self._operand(key))
            case pst.BinaryOp("in", left, right):
                return _within(self._reference(left), self._set_or_item(right))
            case pst.BinaryOp("contains", left, right):
                return Contains(self._set(left), self._operand(right))
            case pst.BinaryOp("contains_all" | "contains_any" as name, left, right):
                return self._contains_several(name, left, right)
        _unsupported(node)

    def _contains_several(self, name: str, left: pst.Expr, right: pst.Expr) -> Condition:
        first, second = self._set(left), self._set(right)
        if isinstance(second, ConstantSet):
            each: list[Condition] = [Contains(first, item) for item in second.items]
            return conjunction(each) if name == "contains_all" else disjunction(each)
        if isinstance(first, ConstantSet) and name == "contains_any":
            return disjunction([Contains(second, item) for item in first.items])
        raise Mistake(
            'a comparison of two sets is not supported unless one of them is written out, as ["a", "b"]',
            "containsAll" if name == "contains_all" else "containsAny",
        )

    def _equal(self, left: pst.Expr, right: pst.Expr) -> Condition:
        for side in (left, right):
            known = self._reference(side) if isinstance(side, pst.Var | pst.GetAttr) else None
            if isinstance(side, pst.Set) or (known and known.type.startswith("Set")):
                raise Mistake("sets cannot be compared; use `contains`", _word(side))
        first, second = self._operand(left), self._operand(right)
        if isinstance(second, Constant) and second.type == "Bool":
            first, second = second, first
        if isinstance(first, Constant) and first.type == "Bool" and isinstance(second, Reference):
            return second if first.value else Negation(second)
        return Relation("==", first, second)

    def _present(self, base: pst.Expr, names: tuple[str, ...]) -> Condition:
        parts: list[Condition] = []
        for count in range(1, len(names) + 1):
            reference = self._attribute(base, names[:count])
            if reference.root == "resource":
                parts.append(Present(reference))
            elif (
                reference.root == "context" and reference.names[-1:] != () and reference.names[0] in OPTIONAL
            ):
                parts.append(Present(Reference("context", reference.names[:1], reference.names[0])))
        return conjunction(parts)

    def _attribute(self, base: pst.Expr, names: Sequence[str]) -> Reference:
        reference = self._reference(base)
        for name in names:
            reference = _attribute_of(reference, name)
        return reference

    def _is(self, base: pst.Expr, kind: pst.EntityType, inside: pst.Expr | None) -> Condition:
        reference = self._reference(base)
        tests = [_has_type(reference, kind)]
        if inside is not None:
            tests.append(_within(reference, self._set_or_item(inside)))
        return conjunction(tests)

    def _operand(self, node: pst.Expr) -> Operand:
        match node:
            case pst.BoolLit(value):
                return Constant(value, "Bool")
            case pst.LongLit(value):
                return Constant(value, "Long")
            case pst.UnaryOp("neg", pst.LongLit(value)):
                return Constant(-value, "Long")
            case pst.StringLit(value):
                return _string(value)
            case pst.EntityLit(uid):
                return _entity(uid)
            case pst.BinaryOp("get_tag", pst.Var("principal"), key):
                return TrainingExpiry(self._operand(key))
            case pst.Var() | pst.GetAttr():
                return self._reference(node)
        _unsupported(node)

    def _reference(self, node: pst.Expr) -> Reference:
        match node:
            case pst.Var("principal" | "action" | "resource" as name):
                return _VARIABLES[name]
            case pst.Var("context"):
                return Reference("context", (), "Context")
            case pst.GetAttr(base, name):
                return _attribute_of(self._reference(base), name)
        _unsupported(node)

    def _set(self, node: pst.Expr) -> Reference | ConstantSet:
        node_set = self._set_or_item(node)
        if isinstance(node_set, Reference) and not node_set.type.startswith("Set"):
            raise Mistake(f"`{node_set}` is not a set", _word(node))
        return node_set

    def _set_or_item(self, node: pst.Expr) -> Reference | ConstantSet:
        items = node.elements if isinstance(node, pst.Set) else (node,)
        if isinstance(node, pst.Var | pst.GetAttr):
            return self._reference(node)
        constants = [self._operand(item) for item in items]
        if not constants or not all(isinstance(item, Constant) for item in constants):
            raise Mistake("a set must consist of literals, at least one", _word(node) or "[")
        return ConstantSet(tuple(item for item in constants if isinstance(item, Constant)))


def _string(value: str) -> Constant:
    if not value.isprintable():
        raise Mistake("a string must not contain control characters", value.split("\\")[0][:20])
    return Constant(value, "String")


def _attribute_of(base: Reference, name: str) -> Reference:
    """Return the reference to an attribute, with its type. Raises: Mistake."""
    if base.root == "resource" and not base.names:
        types = {kind[name] for kind in KINDS.values() if name in kind}
        known = {attribute for kind in KINDS.values() for attribute in kind}
        type_name = types.pop() if types else ""
    else:
        attributes = {"Staff": STAFF, "Context": CONTEXT, **RECORDS}.get(base.type, {})
        if base.type == "Staff" and base.names:
            attributes = {}  # only the name is known of staff other than the principal
        type_name, known = attributes.get(name, ""), set(attributes)
    if type_name:
        return Reference(base.root, (*base.names, name), type_name)
    correction = nearest(name, sorted(known)) if known else "it has none"
    raise Mistake(f"unknown attribute `{name}` of `{base}`: {correction}", f".{name}")


def _unsupported(node: pst.Expr) -> NoReturn:
    if isinstance(node, pst.Like):
        raise Mistake(
            "`like` is not supported: databases differ in it; use `==`, or a set and `contains`", "like"
        )
    name = getattr(node, "op", type(node).__name__.lower())
    raise Mistake(
        f"`{_WORDS.get(name, name)}` is not supported here; use && || ! == != < <= > >= in, `has`, `is`,"
        " `contains`, and hasTag and getTag of `principal`",
        _WORDS.get(name, _word(node)),
    )


def _word(node: pst.Expr) -> str:
    """Return a word of the node's text, by which its line can be found; empty if it has none."""
    match node:
        case pst.GetAttr(_, name):
            return f".{name}"
        case pst.StringLit(value):
            return f'"{value}"'
        case pst.LongLit(value):
            return str(value)
        case pst.EntityLit(uid):
            return f'"{uid.id}"'
        case pst.Var(name):
            return name
        case pst.BinaryOp(_, left, right):
            return _word(left) or _word(right)
    return ""
