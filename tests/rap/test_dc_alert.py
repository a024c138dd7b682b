"""`rap dc alert`, `maintenance` and `visit` follow the configured access policies; each decision is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from datacenter.store.store import Store
from datacenter.store.tables.schema import audit
from rap.__main__ import main
from tests.support.datacenter.notices import raise_alert, resolve_alert
from tests.support.datacenter.placed import BOX, ENGINEER, SERIAL, placed_instrument

STAFF = f"""{ENGINEER}[staff.viewer]
roles = ["viewer"]
scope = ["country/DE"]
[staff.abroad]
roles = ["supervisor"]
scope = ["country/PT"]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file, store = placed_instrument(tmp_path, STAFF)
    raise_alert(store, "one")
    raise_alert(store, "two")
    resolve_alert(store, "two")
    store.close()
    return file


def test_alerts_are_listed_acknowledged_and_silenced(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by = ["--as", "engineer", "--config", str(config)]
    assert main(["dc", "alert", "list", *by]) == 0
    assert capsys.readouterr().out.startswith(
        "one  warning   lamp  CHEM-0001 at RAP-0001  since 1970-01-01 00:00 UTC"
    )
    assert main(["dc", "alert", "acknowledge", "one", *by]) == 0
    assert main(["dc", "alert", "acknowledge", "one", *by]) == 2
    assert main(["dc", "alert", "silence", "one", "the part is ordered", "--hours", "3", *by]) == 0
    assert main(["dc", "alert", "silence", "two", "too late", *by]) == 2
    capsys.readouterr()
    assert main(["dc", "alert", "show", "one", *by]) == 0
    text = capsys.readouterr().out
    assert "  acknowledged, silenced until" in text and "by engineer: the part is ordered" in text
    assert "  parts: Halogen lamp\n" in text


def test_access_decisions_are_enforced_and_recorded(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    option = ["--config", str(config)]
    assert main(["dc", "alert", "silence", "one", "quiet", "--as", "viewer", *option]) == 2
    assert main(["dc", "alert", "show", "one", "--as", "abroad", *option]) == 2
    assert "there is no alert one" in capsys.readouterr().err
    assert main(["dc", "alert", "list", "--as", "abroad", *option]) == 0
    assert capsys.readouterr().out == "no alerts\n"
    store = Store(f"sqlite:///{config.parent / 'store.db'}")
    columns = (audit.c.actor, audit.c.action, audit.c.resource, audit.c.outcome)
    rows = [tuple(row) for row in store.read(select(*columns).order_by(audit.c.number))]
    store.close()
    assert ("viewer", "silence-alert", "one", "refused") in rows
    assert ("abroad", "view", "one", "refused") in rows


def test_maintenance_is_planned_listed_and_ended(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by = ["--as", "engineer", "--config", str(config)]
    plan = ["dc", "maintenance", "plan", "new lamp", "--box", BOX, "--instrument", SERIAL]
    assert main([*plan, "--json", *by]) == 0
    (window,) = json.loads(capsys.readouterr().out)
    assert (window["state"], window["instrument"], window["covers_critical"]) == ("in progress", SERIAL, 0)
    assert main(["dc", "maintenance", "list", *by]) == 0
    assert "in progress  new lamp, by engineer  without critical alerts" in capsys.readouterr().out
    assert main(["dc", "maintenance", "end", window["id"], *by]) == 0
    assert main(["dc", "maintenance", "end", window["id"], *by]) == 2
    for wrong in (["--site", "n", "--box", BOX], [], ["--box", BOX, "--from", "2026-03-01"]):
        assert main(["dc", "maintenance", "plan", "x", *wrong, *by]) == 2


@pytest.mark.parametrize("place", [SERIAL, "n"])
def test_the_parts_of_open_alerts_are_listed(
    config: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    by = ["--as", "engineer", "--config", str(config)]
    assert main(["dc", "visit", place, *by]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1 × Halogen lamp, 0.0 expected to be needed",
        "  Halogen lamp for lamp of CHEM-0001 at RAP-0001: no score, alert one (lamp)",
    ]
    assert main(["dc", "visit", place, "--json", *by]) == 0
    assert json.loads(capsys.readouterr().out)["totals"][0]["quantity"] == 1


def test_instruments_and_sites_without_access_are_not_revealed(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("n", SERIAL, "nowhere"):
        assert main(["dc", "visit", place, "--as", "abroad", "--config", str(config)]) == 2
        assert f"there is no instrument and no site {place}" in capsys.readouterr().err
