"""The OpenAPI 3.1 document of the API, made from the route table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import NODEFAULT
from msgspec.structs import fields

from datacenter.commands.desk import REQUEST_KEY_CHARACTERS_MAX
from datacenter.web.api.json_responses import PREFIX, ProblemDetails
from datacenter.web.files.downloads import BINARY
from datacenter.web.routes import WebRoute
from wire.files import FILE_BYTES_MAX

DESCRIPTION: Final = (
    "The content of the staff's pages for programs. A program has the rights of the owner of its API token, within"
    " the limits of the token. Times are milliseconds since 1970; lists have a cursor for the next part."
)
_REFERENCES: Final = "#/components/schemas/{name}"
_STATUSES: Final = {
    "400": "a parameter is wrong; the detail says how to correct it",
    "401": "no valid API token",
    "403": "not permitted",
    "404": "not found, or the caller may not learn whether it exists",
    "413": "the body is too large",
    "415": "the content type of the body is not supported",
    "429": "too many requests; see Retry-After",
    "503": "the database does not respond; nothing was changed",
}
_MORE_STATUSES: Final = {
    206: "the part of the file that the header Range names",
    304: "not modified since the response with this ETag",
    408: "the file was not complete in time",
    409: "the state does not permit this, or the key belongs to another request",
    416: "the range is beyond the end of the file",
    507: "not enough storage for the file; try again later",
}
_NO_PROBLEM: Final = (304, 416)
"""Status codes of responses without a body."""
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "the program's identifier of this request; a repeated request has no further effect",
    "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": REQUEST_KEY_CHARACTERS_MAX},
}


def openapi(routes: Sequence[WebRoute]) -> dict[str, Any]:
    """Return the document of those rows of the route table that belong to the API."""
    rows = [row for row in routes if row.response_kind == "api"]
    results = list(dict.fromkeys(row.result for row in rows if row.result is not None))
    _, components = msgspec.json.schema_components([*results, ProblemDetails], ref_template=_REFERENCES)
    for one in components.values():
        one["description"] = " ".join(one["description"].split())
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {"title": "RAP data center", "version": "1", "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(row: WebRoute) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", row.path)
    path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    is_in_body = row.method == "POST" and not row.takes_file
    query = [] if is_in_body else [_parameter(field) for field in fields(row.parameters)]
    query += [_KEY] if row.has_key else []
    body = {"requestBody": _body(row)} if row.method == "POST" else {}
    problem = {
        "application/problem+json": {"schema": {"$ref": _REFERENCES.format(name=ProblemDetails.__name__)}}
    }
    content = {row.media: {"schema": _schema_of(row)}}
    responses: dict[str, Any] = {"200": {"description": row.text, "content": content}}
    if row.result is not None:
        responses["200"]["headers"] = {"etag": {"schema": {"type": "string"}}}
    if row.method == "GET" and row.result is not None:
        responses["304"] = {"description": _MORE_STATUSES[304]}
    responses |= {
        status: {"description": text, "content": problem}
        for status, text in _STATUSES.items()
        if row.method == "POST" or status not in ("413", "415")
    }
    for status in row.statuses:
        responses[str(status)] = {"description": _MORE_STATUSES[status]}
        if status not in _NO_PROBLEM:
            responses[str(status)]["content"] = content if status == 206 else problem
    return {
        "operationId": f"{row.method.lower()}{re.sub(r'[^a-z]+', '_', row.path.removeprefix(PREFIX))}".rstrip(
            "_"
        ),
        "summary": row.text,
        "parameters": path + query,
        **body,
        "responses": responses,
    }


def _schema_of(row: WebRoute) -> dict[str, str]:
    if row.result is None:
        return {"type": "string", "contentMediaType": row.media}
    return {"$ref": _REFERENCES.format(name=row.result.__name__)}


def _parameter(field: Any) -> dict[str, Any]:
    return {
        "name": field.name,
        "in": "query",
        "required": field.required,
        "schema": _schema_of_field(field),
    }


def _body(row: WebRoute) -> dict[str, Any]:
    """Return the description of the request's body: a file, or a JSON object, optional if no member is required."""
    parameters = row.parameters
    if row.takes_file:
        schema: dict[str, Any] = {"type": "string", "format": "binary", "maxLength": FILE_BYTES_MAX}
        return {"required": True, "content": {BINARY: {"schema": schema}}}
    required = [field.name for field in fields(parameters) if field.required]
    schema = {
        "type": "object",
        "properties": {field.name: _schema_of_field(field) for field in fields(parameters)},
        "required": required,
        "additionalProperties": False,
    }
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


def _schema_of_field(field: Any) -> dict[str, Any]:
    schema = msgspec.json.schema(field.type)
    if "anyOf" in schema:
        schema["anyOf"] = [one for one in schema["anyOf"] if one.get("type") != "null"]
    if field.default not in (NODEFAULT, None, ""):
        schema["default"] = field.default
    return schema
