"""A running data center exposes metrics and its health over HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from datacenter.ingest import PATH
from datacenter.monitoring.metrics import Metrics
from datacenter.monitoring.requests import measured_handler
from datacenter.store.tables.schema import REVISION
from tests.support.datacenter.monitoring import promtool_findings, read, values
from tests.support.datacenter.programs import configure, send_batches
from tests.support.datacenter.store.batches import alert, encoded
from tests.support.eventually import poll_until
from wire.files import FILES_PATH
from wire.http.connection import Peer, Request, Response
from wire.messages import TIME_PATH
from wire.tls.context import Identity

PROGRAM = """
import sys
from datacenter.main import run_datacenter
run_datacenter(sys.argv[1], ready=lambda ports: print(*ports, flush=True))
"""


@contextmanager
def running(file: Path) -> Iterator[list[int]]:
    """Run the program, and yield the TCP ports for boxes, staff and monitoring."""
    command = [sys.executable, "-c", PROGRAM, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None
        try:
            yield [int(port) for port in program.stdout.readline().split()]
        finally:
            program.kill()


def configured(folder: Path) -> tuple[Path, Identity]:
    file, box = configure(folder, f"sqlite:///{folder / 'store.db'}")
    (folder / "staff.toml").write_text('[staff.engineer]\nroles = ["viewer"]\nscope = ["everywhere"]\n')
    staff = '[staff]\ndirectory = "staff.toml"\nport = 0\ndevelopment = true\n'
    file.write_text(file.read_text() + staff + "[monitoring]\nport = 0\n")
    return file, box


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[list[int], Identity]]:
    """The TCP ports of a running data center, and the identity of a box."""
    file, box = configured(tmp_path_factory.mktemp("dc"))
    file.write_text(file.read_text() + 'names = ["rap.example.com"]\n')
    with running(file) as ports:
        yield ports, box


def requests(listener: str, method: str, route: str, status: int) -> str:
    labels = f'listener="{listener}",method="{method}",route="{route}",status="{status}"'
    return f"rap_http_requests_total{{{labels}}}"


def test_a_running_data_center_shows_what_it_stored(program: tuple[list[int], Identity]) -> None:
    (boxes, staff, monitoring), box = program
    assert asyncio.run(send_batches(boxes, box, encoded(alert(1)), encoded(alert(1)))) == [200, 200]
    assert read(staff, "/instruments/RAP-0001/CHEM-0001").status == 401
    assert read(staff, "/instruments/RAP-0001/CHEM-0001/readings.csv", method="PROPFIND").status == 405
    assert read(staff, "/none/of/these").status == 404
    status, text, kind = read(monitoring, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert promtool_findings(text) == ""
    samples = values(text)
    for sample, value in {
        'rap_records_total{result="stored"}': 1,
        'rap_records_total{result="duplicate"}': 1,
        'rap_records_total{result="failed"}': 0,
        "rap_ingest_transaction_seconds_count": 2,
        "rap_batch_age_seconds_count": 1,
        requests("boxes", "POST", "/v1/batches", 200): 2,
        requests("staff", "GET", "/instruments/{box}/{instrument}", 401): 1,
        requests("staff", "other", "/instruments/{box}/{instrument}/readings.csv", 405): 1,
        requests("staff", "GET", "none", 404): 1,
        'rap_open_alerts{severity="critical"}': 0,
        'rap_commands{state="queued"}': 0,
        "rap_boxes": 1,
        "rap_database_up": 1,
    }.items():
        assert (sample, samples.get(sample)) == (sample, value)
    assert samples["rap_store_size_bytes"] >= 4096
    assert 0 < samples['rap_limit_used_ratio{limit="descriptors"}'] < 1
    assert any(
        sample.startswith("rap_build_info{") and f'schema="{REVISION}"' in sample for sample in samples
    )
    assert "process_resident_memory_bytes" in samples
    assert "PROPFIND" not in text and "RAP-0001" not in text and "CHEM-0001" not in text


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "text/plain"])
def test_metrics_have_the_requested_format(program: tuple[list[int], Identity], accept: str) -> None:
    (_, _, monitoring), _ = program
    reply = read(monitoring, "/metrics", accept=accept)
    assert reply.kind.startswith(accept.partition(";")[0])
    assert reply.text.endswith("# EOF\n") == accept.startswith("application")


def test_the_host_must_be_an_address_or_a_configured_name(program: tuple[list[int], Identity]) -> None:
    (_, _, monitoring), _ = program
    hosts = ("127.0.0.1:9464", "[::1]:9464", "localhost", "rap.example.com:9464", "evil.example")
    statuses = [read(monitoring, "/health/live", host).status for host in hosts]
    assert statuses == [200, 200, 200, 200, 421]


def test_the_refusal_of_another_request_names_the_valid_paths(program: tuple[list[int], Identity]) -> None:
    (_, _, monitoring), _ = program
    assert read(monitoring, "/metrics", method="POST").status == 405
    reply = read(monitoring, "/")
    assert reply.status == 404 and "/metrics, /health/live or /health/ready" in reply.text


def test_without_its_database_it_is_alive_but_not_ready(tmp_path: Path) -> None:
    file, _ = configured(tmp_path)
    with running(file) as (_, _, monitoring):
        assert read(monitoring, "/health/ready").text == '{"status":"ok"}'
        for path in tmp_path.glob("store.db*"):
            path.unlink()
        poll_until(lambda: read(monitoring, "/health/ready").status != 200)
        reply = read(monitoring, "/health/ready")
        assert (reply.status, reply.kind) == (503, "application/json")
        assert "removed or replaced" in reply.text
        live = read(monitoring, "/health/live")
    assert (live.status, live.text) == (200, '{"status":"ok"}')


def test_requests_of_boxes_are_counted_by_route_and_status() -> None:
    async def answer(request: Request) -> Response:
        if request.target == PATH:
            raise ValueError("a bug")
        return Response(204)

    async def ask(*targets: str) -> None:
        counted = measured_handler(answer, metrics.request)
        for target in targets:
            with suppress(ValueError):
                await counted(Request("GET", target, {}, b"", Peer("RAP-0001", "127.0.0.1", print)))

    metrics = Metrics()
    asyncio.run(ask(TIME_PATH, f"{FILES_PATH}{'a' * 64}/0/1", "/v1/of-box-RAP-0001", PATH))
    samples = values(generate_latest(metrics.registry).decode())
    assert {name: value for name, value in samples.items() if name.startswith("rap_http_requests_total")} == {
        requests("boxes", "GET", TIME_PATH, 204): 1,
        requests("boxes", "GET", FILES_PATH, 204): 1,
        requests("boxes", "GET", "none", 204): 1,
        requests("boxes", "GET", PATH, 500): 1,
    }
