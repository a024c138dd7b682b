"""Two regions, each with its own configuration, keys and PostgreSQL server, share only histograms."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from datacenter.base.counting import count_all
from datacenter.base.percentiles import percentiles_of, read_days
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.store.store import Store
from datacenter.store.tables.partitions import DAY_MS
from datacenter.store.tables.schema import metadata
from rap.__main__ import main
from tests.support.datacenter.programs import configure_boxes, send_batches, serving
from tests.support.datacenter.store.postgres import running_server
from wire.http.connection import HttpError
from wire.messages import Batch, Entry, ProfileInForce, Status, decode, encode, encode_batch

MODEL, READING = "chemistry-analyzer", "vacuum-pa"
YESTERDAY = time.time_ns() // 1_000_000 // DAY_MS - 1
REGIONS = {"europe": range(1, 7), "asia": range(101, 108)}
"""The numbers of the boxes, each with one instrument."""
WANTED = (5, 25, 50, 75, 95)


def entries(number: int) -> list[bytes]:
    """Return a box's records: a profile, 39 statuses of yesterday, and one of today, which completes yesterday."""
    serial = f"CHEM-{number:04}"
    records = [encode(Entry("", 0, ProfileInForce(0, serial, MODEL, 1)))]
    for index in range(40):
        at_ms = (YESTERDAY + (index == 39)) * DAY_MS + index
        status = Status(index + 1, at_ms, "running", 0, {READING: (index * 7) % 40 + (number > 100) * 20})
        records.append(encode(Entry(serial, 1, status)))
    return records


def batch(number: int) -> bytes:
    return encode_batch(1, list(enumerate(entries(number), 1)))


def count(store: Store, boxes: list[str]) -> None:
    for box in boxes:
        Evaluator(store, TriggerSet([])).advance(box, 1)
    assert count_all(store, time.time_ns() // 1_000_000)


def names_of(numbers: range) -> list[str]:
    return [f"RAP-{number:04}" for number in numbers]


def rows_with(url: str, name: str) -> int:
    """Return the number of rows of all tables that contain `name`, as text or in a binary column."""
    count = 0
    with closing(Store(url)) as store:
        for table in metadata.tables:
            columns = f"{table}::text LIKE '%{name}%' OR {table}::text LIKE '%{name.encode().hex()}%'"
            count += next(store.read(text(f"SELECT count(*) FROM {table} WHERE {columns}")))[0]
    return count


def global_percentiles() -> list[int] | None:
    """Return the percentiles of all instruments in one database."""
    with closing(Store("sqlite://")) as store:
        boxes = [box for numbers in REGIONS.values() for box in names_of(numbers)]
        store.authorize(boxes, 0)
        for numbers in REGIONS.values():
            for number in numbers:
                store.ingest(f"RAP-{number:04}", decode(Batch, batch(number)), 1)
        count(store, boxes)
        with store.transaction() as connection:
            days = read_days(connection, MODEL, READING, ["everywhere"], YESTERDAY, YESTERDAY + 1)
        return percentiles_of(days, WANTED)


@pytest.mark.slow("starts two database servers and two programs")
def test_regions_share_only_counts_and_have_the_percentiles_of_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        urls, configs, ports, identities = {}, {}, {}, {}
        for region, numbers in REGIONS.items():
            folder = tmp_path / region
            folder.mkdir()
            urls[region] = stack.enter_context(running_server())
            configs[region], identities[region] = configure_boxes(folder, urls[region], names_of(numbers))
            ports[region] = stack.enter_context(serving(configs[region]))
        for region, numbers in REGIONS.items():
            for number in numbers:
                identity = identities[region][f"RAP-{number:04}"]
                assert asyncio.run(send_batches(ports[region], identity, batch(number))) == [200]
        stranger = identities["asia"]["RAP-0101"]
        with pytest.raises((HttpError, OSError)):
            asyncio.run(send_batches(ports["europe"], stranger, batch(101)))
        exported = []
        for region, numbers in REGIONS.items():
            with closing(Store(urls[region])) as store:
                count(store, names_of(numbers))
            exported.append(export(configs[region], tmp_path / f"{region}.json", capsys))
        assert [one["withheld"] for one in exported] == [0, 0]
        assert not any(name in json.dumps(exported) for name in ("RAP-", "CHEM-"))
        assert rows_with(urls["europe"], "RAP-0001") and rows_with(urls["asia"], "CHEM-0101")
        for name in ("RAP-01", "CHEM-01"):
            assert rows_with(urls["europe"], name) == 0
        for name in ("RAP-00", "CHEM-00"):
            assert rows_with(urls["asia"], name) == 0
        files = [str(tmp_path / f"{region}.json") for region in REGIONS]
        assert main(["dc", "base", "merge", *files]) == 0
        pairs = zip(WANTED, global_percentiles() or [], strict=True)
        expected = [f"{percent} %: {value}" for percent, value in pairs]
        assert capsys.readouterr().out.splitlines() == expected
        europe = configs["europe"]
        europe.write_text(europe.read_text() + "[base]\nexport_instruments_min = 7\n")
        assert export(europe, tmp_path / "few.json", capsys)["values"] == []


def export(config: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    command = ["dc", "base", "export", "--config", str(config), "--model", MODEL, "--reading", READING]
    assert main(command) == 0
    file.write_text(capsys.readouterr().out)
    exported: dict[str, Any] = json.loads(file.read_text())
    return exported
