"""Changes of the API's document that break clients are found, and `make golden` does not write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tools import api_reference
from tools.api_changes import breaking_changes

ROOT = Path(__file__).parents[2]
ALERTS = "/api/v1/alerts"
PLAN = "/api/v1/sites/{site}/maintenance"


def committed() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / api_reference.PAGE).read_text("utf-8"))
    return document


def parameter(document: dict[str, Any], name: str) -> dict[str, Any]:
    part: dict[str, Any] = next(
        part for part in document["paths"][ALERTS]["get"]["parameters"] if part["name"] == name
    )
    return part


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    part: dict[str, Any] = document["components"]["schemas"][name]
    return part


def body(document: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = document["paths"][PLAN]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    return part


CHANGES: dict[str, Callable[[Any], object]] = {
    "GET /api/v1/alerts: is removed": lambda document: document["paths"].pop(ALERTS),
    "GET /api/v1/alerts: parameter site is removed": lambda document: document["paths"][ALERTS]["get"][
        "parameters"
    ].remove(parameter(document, "site")),
    "GET /api/v1/alerts: parameter site is required": lambda document: parameter(document, "site").update(
        required=True
    ),
    "GET /api/v1/alerts: parameter state cannot be all": lambda document: parameter(document, "state")[
        "schema"
    ]["enum"].remove("all"),
    "GET /api/v1/alerts: parameter site cannot be any text": lambda document: parameter(document, "site")[
        "schema"
    ].update(enum=["berlin-1"]),
    "GET /api/v1/alerts: parameter limit cannot be of type integer": lambda document: parameter(
        document, "limit"
    )["schema"].update(type="string"),
    "POST /api/v1/sites/{site}/maintenance: member hours is removed": lambda document: body(document)[
        "properties"
    ].pop("hours"),
    "POST /api/v1/sites/{site}/maintenance: member reason is required": lambda document: body(
        document
    ).update(required=["reason"]),
    "GET /api/v1/alerts: items[].severity is not answered": lambda document: schema(document, "ApiAlert")[
        "properties"
    ].pop("severity"),
    "GET /api/v1/alerts: items[].box is not always answered": lambda document: schema(document, "ApiAlert")[
        "required"
    ].remove("box"),
    "GET /api/v1/alerts: items[].box can be of type null": lambda document: schema(document, "ApiAlert")[
        "properties"
    ].update(box={"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "GET /api/v1/triggers/{trigger}: score.recall can be of type string": lambda document: schema(
        document, "RecordedScore"
    )["properties"].update(recall={"type": "string"}),
    "GET /api/v1/instruments/{box}/{instrument}/readings.csv: does not answer with text/csv": lambda document: (
        document["paths"]["/api/v1/instruments/{box}/{instrument}/readings.csv"]["get"]["responses"]["200"][
            "content"
        ].pop("text/csv")
    ),
}
COMPATIBLE: dict[str, Callable[[Any], object]] = {
    "a new path": lambda document: document["paths"].update({"/api/v1/new": document["paths"][ALERTS]}),
    "a new parameter": lambda document: document["paths"][ALERTS]["get"]["parameters"].append(
        {"name": "new", "in": "query", "required": False, "schema": {"type": "string"}}
    ),
    "a new word": lambda document: parameter(document, "state")["schema"]["enum"].append("new"),
    "any text": lambda document: parameter(document, "state").update(schema={"type": "string"}),
    "a new member of an answer": lambda document: schema(document, "ApiAlert")["properties"].update(
        new={"type": "string"}
    ),
    "never null": lambda document: schema(document, "ApiAlert")["properties"].update(site={"type": "string"}),
}


@pytest.mark.parametrize("text", CHANGES)
def test_a_breaking_change_is_found(text: str) -> None:
    after = committed()
    CHANGES[text](after)
    assert text in breaking_changes(committed(), after)
    after["info"]["version"] = "2"
    assert breaking_changes(committed(), after) == []


@pytest.mark.parametrize("text", COMPATIBLE)
def test_a_compatible_change_is_not_reported(text: str) -> None:
    after = committed()
    COMPATIBLE[text](after)
    assert after != committed()
    assert breaking_changes(committed(), after) == []


def test_a_breaking_change_is_written_only_if_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = deepcopy(committed())
    before["paths"]["/api/v1/old"] = before["paths"][ALERTS]
    page = tmp_path / "openapi.json"
    page.write_text(json.dumps(before))
    monkeypatch.setattr(api_reference, "PAGE", page)
    assert api_reference.main() == 1
    assert "GET /api/v1/old: is removed" in capsys.readouterr().err
    assert json.loads(page.read_text()) == before
    monkeypatch.setattr(api_reference, "ACCEPTED", {"GET /api/v1/old: is removed": "it was never released"})
    assert api_reference.main() == 0
    assert page.read_text() == (ROOT / "docs/reference/openapi.json").read_text("utf-8")
