"""Finds the changes of an OpenAPI document that break programs which use the API.

A program breaks if something that it calls, sends or reads is removed, or if it must send more. Additions break
none. The check covers the output of `datacenter.web.api.openapi`: parameters, JSON bodies and answers of objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

Document: TypeAlias = Mapping[str, Any]


def breaking_changes(before: Document, after: Document) -> list[str]:
    """Return the breaking changes in words, in the order of the earlier document; none if the version is new."""
    if before["info"]["version"] != after["info"]["version"]:
        return []
    return list(_paths(before, after))


def _paths(before: Document, after: Document) -> Iterator[str]:
    for path, methods in before["paths"].items():
        for method, old in methods.items():
            name = f"{method.upper()} {path}"
            new = after["paths"].get(path, {}).get(method)
            if new is None:
                yield f"{name}: is removed"
                continue
            yield from (f"{name}: {text}" for text in _sent(_inputs(old, before), _inputs(new, after)))
            yield from (f"{name}: {text}" for text in _answers(old, new, before, after))


def _inputs(operation: Document, document: Document) -> dict[str, tuple[bool, Shape]]:
    """Return the values in a request by name: whether each is required, and its shape."""
    inputs = {
        f"parameter {one['name']}": (one["required"], _shape(one["schema"], document))
        for one in operation["parameters"]
    }
    for body in operation.get("requestBody", {}).get("content", {}).values():
        body_shape = _shape(body["schema"], document)
        for name, member in body_shape.members.items():
            inputs[f"member {name}"] = (name in body_shape.required, _shape(member, document))
    return inputs


def _sent(before: Mapping[str, tuple[bool, Shape]], after: Mapping[str, tuple[bool, Shape]]) -> Iterator[str]:
    for name, (was_required, old) in before.items():
        if name not in after:
            yield f"{name} is removed"
            continue
        is_required, new = after[name]
        if is_required and not was_required:
            yield f"{name} is required"
        if lost := old.types - new.types:
            yield f"{name} cannot be of type {', '.join(sorted(lost))}"
        elif new.values and (refused := (old.values or {"any text"}) - new.values):
            yield f"{name} cannot be {', '.join(sorted(refused))}"
    for name, (is_required, _) in after.items():
        if is_required and name not in before:
            yield f"{name} is new and required"


def _answers(old: Document, new: Document, before: Document, after: Document) -> Iterator[str]:
    for media, content in old["responses"]["200"]["content"].items():
        new_content = new["responses"]["200"]["content"].get(media)
        if new_content is None:
            yield f"does not answer with {media}"
            continue
        yield from _read(
            "the answer", _shape(content["schema"], before), _shape(new_content["schema"], after)
        )


def _read(location: str, old: Shape, new: Shape) -> Iterator[str]:
    """Compare the values that a program reads at a location in the answer."""
    if more := new.types - old.types:
        yield f"{location} can be of type {', '.join(sorted(more))}"
    for name, member in old.members.items():
        inner = name if location == "the answer" else f"{location}.{name}"
        if name not in new.members:
            yield f"{inner} is not answered"
            continue
        if name in old.required and name not in new.required:
            yield f"{inner} is not always answered"
        yield from _read(inner, _shape(member, old.document), _shape(new.members[name], new.document))
    if old.item is not None and new.item is not None:
        yield from _read(f"{location}[]", _shape(old.item, old.document), _shape(new.item, new.document))


class Shape(NamedTuple):
    """The values of a schema: the union of its alternatives, with references resolved."""

    document: Document
    types: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    """The texts that the value is one of; none if it can be any."""
    members: Mapping[str, Document] = {}
    required: frozenset[str] = frozenset()
    item: Document | None = None


def _shape(schema: Document, document: Document) -> Shape:
    if "$ref" in schema:
        return _shape(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        parts = [_shape(one, document) for one in schema["anyOf"]]
        return Shape(
            document,
            frozenset[str]().union(*(one.types for one in parts)),
            frozenset[str]().union(*(one.values for one in parts)),
            {name: member for one in parts for name, member in one.members.items()},
            frozenset[str]().union(*(one.required for one in parts)),
            next((one.item for one in parts if one.item), None),
        )
    values = frozenset(schema.get("enum", ()))
    others = schema.get("additionalProperties")
    return Shape(
        document,
        frozenset({schema["type"]} if "type" in schema else {"string"} if values else ()),
        values,
        schema.get("properties", {}),
        frozenset(schema.get("required", ())),
        schema.get("items") or (others if isinstance(others, Mapping) else None),
    )
