"""Exported files contain the stored statuses, are written in parts, need the right to export, and are recorded."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyarrow import parquet

from datacenter.history.archive import history
from datacenter.history.chunk import encode_chunk
from datacenter.history.statuses import Statuses
from datacenter.store.store import Store
from datacenter.store.tables.schema import chunks
from datacenter.web.files.exports import StatusExport
from settings.profile import load_profile
from tests.support.datacenter.web.client import WebClient
from tests.support.datacenter.web.fleet import NOW_MS
from wire.messages import Status

DAY_MS = 86_400_000
ONE = "/instruments/RAP-0001/CHEM-0001"
API = f"/api/v1{ONE}"


def table(body: bytes) -> pa.Table:
    return parquet.read_table(io.BytesIO(body))


@pytest.fixture
def long() -> Iterator[Store]:
    """A store with 20 archived days of an instrument; every second status has a second reading."""
    store = Store("sqlite://")
    with store.transaction() as connection:
        for day in range(20):
            statuses = [
                (
                    1,
                    Status(
                        day * 100 + n,
                        day * DAY_MS + n * 60_000,
                        "idle",
                        n,
                        {"a-n": n} | ({"b-n": -n} if n % 2 else {}),
                    ),
                )
                for n in range(100)
            ]
            body = encode_chunk(Statuses.of(statuses))
            row = {"box": "RAP-0001", "instrument": "X", "day": day, "statuses": 100, "body": body}
            connection.execute(chunks.insert().values(row))
    yield store
    store.close()


@pytest.mark.parametrize("target", [f"{ONE}/readings", f"{API}/readings"])
def test_parquet_and_csv_have_the_stored_statuses(web: WebClient, target: str) -> None:
    engineer = web.sign_in("engineer")
    client = engineer.program() if target.startswith("/api") else engineer
    period = f"since_ms={NOW_MS - 2 * DAY_MS}&until_ms={NOW_MS}"
    answer = client.get(f"{target}.parquet?{period}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/vnd.apache.parquet")
    assert answer.headers["content-disposition"] == 'attachment; filename="CHEM-0001.parquet"'
    exported = table(answer.body)
    lines = list(csv.DictReader(io.StringIO(client.get(f"{target}.csv?{period}").text)))
    assert web.store is not None
    stored = list(history(web.store, "RAP-0001", "CHEM-0001", NOW_MS - 2 * DAY_MS, NOW_MS).reports())
    assert exported.num_rows == len(lines) == len(stored) > 1000
    for row, line, (run, status) in list(
        zip(exported.to_pylist(), lines, sorted(stored, key=lambda one: one[1].at_ms), strict=True)
    )[::97]:
        assert (row["run"], row["number"], row["state"], row["samples"]) == (
            run,
            status.number,
            status.state,
            status.samples,
        )
        assert int(row["at_ms"].timestamp() * 1000) == status.at_ms == int(line["at_ms"])
        assert {name: row[name] for name in status.readings} == status.readings
        assert {name: int(line[name]) for name in status.readings} == status.readings
    unit = load_profile("chemistry-analyzer").channels["reaction-temp-mc"].unit
    assert exported.schema.field("reaction-temp-mc").metadata[b"unit"].decode() == unit


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_needs_the_right_and_is_recorded(web: WebClient, form: str) -> None:
    for target in (f"{ONE}/readings.{form}", f"{API}/readings.{form}"):
        observer = web.sign_in("observer")
        assert (observer.program() if target.startswith("/api") else observer).get(target).status == 403
        assert (web.entries[-1].action, web.entries[-1].outcome) == ("export", "refused")
        engineer = web.sign_in("engineer")
        assert (engineer.program() if target.startswith("/api") else engineer).get(target).status == 200
        entry = web.entries[-1]
        assert (entry.action, entry.outcome, entry.resource) == ("export", "permitted", "CHEM-0001")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_is_made_in_parts(long: Store, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr("datacenter.web.files.exports.PART", 250)
    export = StatusExport(long, "RAP-0001", "X", 0, 20 * DAY_MS)
    assert [len(part) for part in export.parts()] == [300] * 6 + [200]
    parts = list(export.csv_parts(["a-n", "b-n"]) if form == "csv" else export.parquet_parts(["a-n", "b-n"]))
    assert sum(len(part) > 0 for part in parts) >= 7
    body = b"".join(parts)
    if form == "parquet":
        assert parquet.ParquetFile(io.BytesIO(body)).num_row_groups == 7
        exported = table(body)
        assert (exported["a-n"].null_count, exported["b-n"].null_count) == (0, 20 * 50)
        assert exported["number"].to_pylist() == list(range(20 * 100))
    else:
        rows = list(csv.DictReader(io.StringIO(body.decode())))
        assert [int(row["number"]) for row in rows] == list(range(20 * 100))


def test_an_empty_period_gives_an_empty_file(web: WebClient) -> None:
    engineer = web.sign_in("engineer")
    assert table(engineer.get(f"{ONE}/readings.parquet?since_ms=0&until_ms=1000").body).num_rows == 0
    assert (
        engineer.get(f"{ONE}/readings.csv?since_ms=0&until_ms=1000").text
        == "run,number,at_ms,state,samples\r\n"
    )
