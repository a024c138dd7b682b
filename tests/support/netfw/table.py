"""A model of the kernel's firewall table, which executes or refuses libnftables JSON commands as the kernel does."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

Json = Any
REFERRING = ("chain", "set", "map", "counter", "quota")


class Refused(Exception):
    """The kernel would refuse this command, and with it the whole transaction."""


class Table:
    """Objects, rules and elements; `deleted` lists deleted objects in order, such as "chain input"."""

    def __init__(self) -> None:
        self.exists = False
        self.attributes: Json = {}
        self.objects: dict[str, dict[str, Json]] = {}
        self.rules: dict[str, list[Json]] = {}
        self.elements: dict[str, list[Json]] = {}
        self.deleted: list[str] = []
        self.flushed: list[str] = []

    def run(self, commands: Iterable[Json]) -> Table:
        """Execute a transaction. Raises: Refused."""
        for command in commands:
            ((operation, item),) = copy.deepcopy(command).items()
            ((kind, body),) = item.items()
            assert body.get("family") == "inet" and body.get("table", body.get("name")) == "rap", command
            getattr(self, operation)(kind, body)
        for name, rules in self.rules.items():
            for used in [each for rule in rules for each in referred(rule["expr"])]:
                self._require(used in self.all_names(), f"chain {name} refers to {used}")
        return self

    def outline(self) -> list[Json]:
        """Return a listing of the table, its sets without elements, its chains without rules, and its counters."""
        items = [{kind: body} for kind, by_name in self.objects.items() for body in by_name.values()]
        return [{"table": self.attributes}, *copy.deepcopy(items)]

    def listing(self) -> list[Json]:
        """Return a complete listing of the table."""
        listed = self.outline()
        for item in listed:
            for kind in ("set", "map"):
                if kind in item and (elements := self.elements.get(item[kind]["name"])):
                    item[kind]["elem"] = copy.deepcopy(elements)
        return listed + [{"rule": rule} for rules in self.rules.values() for rule in copy.deepcopy(rules)]

    def all_names(self) -> set[str]:
        return {name for by_name in self.objects.values() for name in by_name}

    def _require(self, holds: bool, reason: str) -> None:
        if not holds:
            raise Refused(reason)

    def _find(self, kind: str, name: str) -> Json:
        self._require(name in self.objects.get(kind, {}), f"there is no {kind} {name}")
        return self.objects[kind][name]

    def add(self, kind: str, body: Json) -> None:
        if kind == "table":
            self.exists, self.attributes = True, body
            return
        self._require(self.exists, "there is no table")
        if kind == "rule":
            self._find("chain", body["chain"])
            self.rules.setdefault(body["chain"], []).append(body)
        elif kind == "element":
            self._find("set", body["name"])
            self.elements.setdefault(body["name"], []).extend(body["elem"])
        else:
            self._declare(kind, body)

    def _declare(self, kind: str, body: Json) -> None:
        name = body["name"]
        others = {key for key in ("set", "map") if key != kind and kind in ("set", "map")}
        self._require(not any(name in self.objects.get(o, {}) for o in others), f"{name} is of another kind")
        before = self.objects.setdefault(kind, {}).get(name)
        changeable = {"policy"} if kind == "chain" else {"packets", "bytes"}
        if before is not None:
            same = {k: v for k, v in before.items() if k not in changeable} == {
                k: v for k, v in body.items() if k not in changeable
            }
            self._require(same, f"{kind} {name} exists already and differs")
        elements = body.pop("elem", [])
        self.objects[kind][name] = (before or {}) | body
        if kind in ("set", "map"):
            self.elements.setdefault(name, []).extend(elements)

    def delete(self, kind: str, body: Json) -> None:
        self.deleted.append(f"{kind} {body['name']}")
        if kind == "table":
            self._require(self.exists, "there is no table")
            log = self.deleted, self.flushed
            self.__init__()  # type: ignore[misc]
            self.deleted, self.flushed = log
        elif kind == "element":
            elements = self.elements.get(body["name"], [])
            for element in body["elem"]:
                matching = [each for each in elements if key_of(each) == key_of(element)]
                self._require(bool(matching), f"set {body['name']} has no {element}")
                elements.remove(matching[0])
        else:
            self._find(kind, body["name"])
            used = {
                name for rules in self.rules.values() for rule in rules for name in referred(rule["expr"])
            }
            used |= {name for elements in self.elements.values() for name in referred(elements)}
            self._require(body["name"] not in used, f"{kind} {body['name']} is in use")
            self._require(not (kind == "chain" and self.rules.get(body["name"])), "the chain has rules")
            del self.objects[kind][body["name"]]
            self.elements.pop(body["name"], None)

    def flush(self, kind: str, body: Json) -> None:
        self._find(kind, body["name"])
        self.flushed.append(f"{kind} {body['name']}")
        (self.rules if kind == "chain" else self.elements)[body["name"]] = []


def key_of(element: Json) -> Json:
    """Return the key of an element, without its timeout."""
    return element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element


def referred(value: Json) -> Iterable[str]:
    """Yield the names of sets, chains and counters to which expressions refer."""
    match value:
        case {"goto": {"target": name}} | {"jump": {"target": name}} | {"counter": str(name)}:
            yield name
        case str() if value.startswith("@"):
            yield value[1:]
        case dict():
            for inner in value.values():
                yield from referred(inner)
        case list():
            for inner in value:
                yield from referred(inner)
