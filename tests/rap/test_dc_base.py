"""`rap dc base` merges two regions; `rap dc retention` shows what it would delete, and deletes it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert, select

from datacenter.base.histogram import Histogram, added, encode_histogram
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import base_days, chunks
from rap.__main__ import main
from tests.support.datacenter.programs import configure

TODAY = time.time_ns() // 1_000_000 // DAY_MS


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A data center with six instruments, each with the readings 1 to 99, and chunks of two earlier days."""
    file, _ = configure(tmp_path, f"sqlite:///{tmp_path / 'store.db'}")
    file.write_text(file.read_text() + "[store.retention]\nreadings_days = 400\n")
    histogram = added([Histogram.of_instrument(np.arange(1, 100))] * 6)
    key = {"model": "m", "reading": "r", "place": "everywhere", "day": TODAY - 1, "instruments": 6}
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    with store.transaction() as connection:
        connection.execute(insert(base_days).values(**key, body=encode_histogram(histogram)))
        for day in (TODAY - 500, TODAY - 300):
            old = {"box": "RAP-0001", "instrument": "X", "day": day, "statuses": 1, "body": b""}
            connection.execute(insert(chunks).values(old))
    store.close()
    return str(file)


def test_regions_are_exported_and_merged(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dc", "base", "export", "--config", config, "--model", "m", "--reading", "r"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["withheld"] == 0 and len(json.loads(text)["values"]) == 99
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.json").write_text(text.replace('"withheld":0', '"withheld":12'))
    assert main(["dc", "base", "merge", str(tmp_path / "a.json")]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "50 %: 50"
    assert main(["dc", "base", "merge", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    assert capsys.readouterr().out.splitlines()[2] == "50 %: 49 to 50"
    (tmp_path / "b.json").write_text("{}")
    assert main(["dc", "base", "merge", str(tmp_path / "b.json")]) == 2
    assert "rap dc base export" in capsys.readouterr().err


def test_a_dry_run_shows_what_is_then_deleted(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def days() -> list[int]:
        store = Store(f"sqlite:///{tmp_path / 'store.db'}")
        stored = [day for (day,) in store.read(select(chunks.c.day))]
        store.close()
        return stored

    assert main(["dc", "retention", "--config", config, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "readings: kept 400 days; 1 rows would be deleted, the oldest from " in text
    assert "kept without limit: errors," in text and text.endswith("audit\n")
    assert len(days()) == 2
    assert main(["dc", "retention", "--config", config, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kinds"][0]["rows"] == 1
    assert days() == [TODAY - 300]
