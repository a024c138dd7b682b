"""`POST /v1/reports` as an instrument sees it: over mutual TLS, to a box with an emulated disk."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence

import pytest

from agents.box.box import Box
from agents.box.intake.backlog import FAIR_REPORTS_PER_SECOND, WAITING_BYTES_MAX
from agents.box.intake.collector import RETRY_SPOOL_SECONDS, port_limits
from agents.box.intake.limits import REPORTS_BURST
from hal.emul.disk import EmulDisk
from settings.profile import load_profile
from settings.types import Endpoint
from tests.support.agents.boxes import box_config, connect, disk, running_box
from tests.support.agents.stand_in import stand_in
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.dial.dialer import dial
from wire.http.connection import ClientConnection, HttpError, Response
from wire.messages import (
    INT_MAX,
    NEXT_RUN,
    REPLY_BYTES_MAX,
    REPORTS_BODY_BYTES_MAX,
    REPORTS_PER_POST_MAX,
    RUN_MAX,
    Alert,
    InstrumentReport,
    Quality,
    Receipt,
    Reports,
    Status,
    decode,
    encode,
)
from wire.tls.context import Identity

DISCARD_PORT = 9  # the discard port: no data center
Scenario = Callable[[Box, EmulDisk], Awaitable[None]]


def quality(*numbers: int) -> list[InstrumentReport]:
    return [Quality(number, 0, "glu", 1, 0) for number in numbers]


def post(
    connection: ClientConnection, reports: Sequence[InstrumentReport], run: int = 1
) -> asyncio.Future[Response]:
    return connection.request("POST", "/v1/reports", encode(Reports(run, list(reports))))


def with_a_box(pki: Hierarchy, scenario: Scenario) -> None:
    async def run() -> None:
        spool_disk = disk()
        async with running_box(box_config(pki, DISCARD_PORT), spool_disk) as box:
            await scenario(box, spool_disk)

    asyncio.run(run())


async def counts(box: Box) -> tuple[int, int]:
    status = await box.status()
    assert status is not None
    return status.reports_accepted, status.reports_repeated


def test_reports_are_durable_when_the_receipt_comes(pki: Hierarchy) -> None:
    async def scenario(box: Box, spool_disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        response = await post(connection, quality(*range(1, REPORTS_PER_POST_MAX + 1)))
        assert decode(Receipt, response.body) == Receipt(REPORTS_PER_POST_MAX)
        after = spool_disk.backend.cut_power()
        async with running_box(box_config(pki, DISCARD_PORT), after) as next_box:
            await post(await connect(next_box, pki.instrument), quality(REPORTS_PER_POST_MAX))
            assert await counts(next_box) == (0, 1)
            status = await next_box.status()
            assert status is not None
            assert sum(status.spool.records.values()) >= REPORTS_PER_POST_MAX

    with_a_box(pki, scenario)


def test_duplicates_are_acknowledged_and_not_stored(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        alert = Alert(3, 0, "L0100", "lamp", "error")
        await post(connection, quality(1, 2))
        response = await post(connection, [alert, *quality(1, 2, 4)])
        assert decode(Receipt, response.body).accepted == 4
        assert await counts(box) == (4, 2)
        await post(connection, [alert])
        assert await counts(box) == (4, 3)
        await post(connection, quality(1), run=2)
        assert await counts(box) == (5, 3)

    with_a_box(pki, scenario)


@pytest.mark.parametrize("restarted", [False, True])
def test_another_report_under_a_used_number_is_refused_with_the_next_run(
    pki: Hierarchy, restarted: bool
) -> None:
    async def scenario(box: Box, spool_disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        assert (await post(connection, [first_alert, *quality(*range(2, 100))][:64], run=7)).status == 200
        if not restarted:
            await refused(box)
            return
        async with running_box(box_config(pki, DISCARD_PORT), spool_disk.backend.cut_power()) as next_box:
            await refused(next_box)

    async def refused(box: Box) -> None:
        connection, before = await connect(box, pki.instrument), sum(await counts(box))
        conflicts: tuple[list[InstrumentReport], ...] = (
            [Alert(1, 1, "L0100", "lamp", "error")],
            [Alert(1, 0, "L0100", "lamp", "info")],
            quality(1),
            [Quality(64, 0, "glu", 1, 1)],
            [Quality(64, 0, "glu", 1, 1), *quality(200)],
            [first_alert, Quality(64, 0, "glu", 1, 1)],
        )
        for reports in conflicts:
            response = await post(connection, reports, run=7)
            assert (response.status, response.headers[NEXT_RUN]) == (409, "8")
            assert "of run 7" in response.body.decode()
        assert sum(await counts(box)) == before
        assert (await post(connection, [first_alert, *quality(63, 64)], run=7)).status == 200
        assert (await post(connection, [Alert(1, 1, "L0100", "lamp", "error")], run=8)).status == 200

    first_alert = Alert(1, 0, "L0100", "lamp", "error")
    with_a_box(pki, scenario)


def test_a_number_too_old_to_compare_is_refused(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        for first in (1, 65):
            await post(connection, quality(*range(first, first + 64)))
        assert (await post(connection, quality(64))).status == 409
        assert (await post(connection, quality(65, 128))).status == 200
        assert await counts(box) == (128, 2)

    with_a_box(pki, scenario)


@pytest.mark.parametrize(("before", "after", "status"), [
    (7, 6, 409), (7, 0, 409), (RUN_MAX - 1, 3, 409), (RUN_MAX, 3, 200), (0, 1, 200), (7, RUN_MAX, 200)
])  # fmt: skip
def test_runs_rise_up_to_their_maximum(pki: Hierarchy, before: int, after: int, status: int) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        assert (await post(connection, quality(1), run=before)).status == 200
        for reports in (quality(1), [Alert(2, 0, "L0100", "lamp", "error")]):
            response = await post(connection, reports, run=after)
            assert response.status == status
            if status == 409:
                assert response.headers[NEXT_RUN] == str(before + 1)

    with_a_box(pki, scenario)


def test_a_repetition_during_the_first_write_is_not_stored_again(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connections = [await connect(box, pki.instrument) for _ in range(4)]
        responses = await asyncio.gather(*(post(connection, quality(1, 2, 3)) for connection in connections))
        assert [response.status for response in responses] == [200] * 4
        assert await counts(box) == (3, 9)

    with_a_box(pki, scenario)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        encode(Reports(1, quality(1)))[:-1],
        encode(Reports(1, quality(1))).replace(b"glu", b"gpt"),
        encode(Reports(1, quality(2, 1))),
        encode(Reports(1, quality(5, 5))),
        encode(Reports(1, quality(*range(1, REPORTS_PER_POST_MAX + 2)))),
        b"\x92\x01\x91\x97\xa7quality\x01\x00\xa3glu\x01\x00\xa4more",
    ],
)
def test_values_outside_the_allow_list_are_refused_and_named(pki: Hierarchy, body: bytes) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        response = await connection.request("POST", "/v1/reports", body)
        assert response.status == 400
        assert response.body
        assert (await post(connection, quality(1))).status == 200
        assert await counts(box) == (1, 0)

    with_a_box(pki, scenario)


def test_a_body_at_the_limit_is_accepted_and_a_longer_one_is_not(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        at_limit = connection.request("POST", "/v1/reports", bytes(REPORTS_BODY_BYTES_MAX))
        beyond = connection.request("POST", "/v1/reports", bytes(REPORTS_BODY_BYTES_MAX + 1))
        assert (await at_limit).status == 400
        assert (await beyond).status == 413

    with_a_box(pki, scenario)


def test_other_targets_and_methods_are_refused(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        assert (await connection.request("POST", "/v1/batches")).status == 404
        response = await connection.request("GET", "/v1/reports")
        assert (response.status, response.headers["allow"]) == (405, "POST")

    with_a_box(pki, scenario)


def test_an_instrument_is_served_only_at_its_own_port(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        for identity, port, status in (
            (pki.instrument, 2, 403),
            (pki.other_instrument, 2, 200),
            (pki.stranger, 1, 403),
        ):
            assert (await post(await connect(box, identity, port), quality(1))).status == status

    with_a_box(pki, scenario)


@pytest.mark.parametrize("kind", ["expired", "impostor"])
def test_an_invalid_certificate_is_refused(pki: Hierarchy, kind: str) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        identity: Identity = getattr(pki, kind)
        with pytest.raises((OSError, HttpError)):  # under TLS 1.3 the client learns of it after its handshake
            await post(await connect(box, identity), quality(1))
        assert await counts(box) == (0, 0)

    with_a_box(pki, scenario)


def test_a_client_without_a_certificate_is_refused(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        without_certificate = ssl.create_default_context(cafile=pki.instrument.authorities)
        with pytest.raises((OSError, HttpError)):
            connection = await dial(
                Endpoint("127.0.0.1", box.tcp_ports[1]), without_certificate, reply_bytes_max=REPLY_BYTES_MAX
            )
            await post(connection, quality(1))
        assert await counts(box) == (0, 0)

    with_a_box(pki, scenario)


def test_a_flood_is_slowed_down(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        numbers = range(1, REPORTS_BURST + 1)
        for first in range(0, REPORTS_BURST, REPORTS_PER_POST_MAX):
            response = await post(connection, quality(*numbers[first : first + REPORTS_PER_POST_MAX]))
            assert response.status == 200
        response = await post(connection, quality(*range(REPORTS_BURST + 1, REPORTS_BURST + 65)))
        assert response.status == 429
        assert 1 <= int(response.headers["retry-after"]) <= 4
        other = await connect(box, pki.other_instrument, 2)
        assert (await post(other, quality(1))).status == 200

    with_a_box(pki, scenario)


def test_a_large_backlog_limits_its_instrument_and_no_other_port(
    pki: Hierarchy,
) -> None:
    readings = dict.fromkeys(load_profile("chemistry-analyzer").channels, INT_MAX)
    numbers = range(1, 100 * REPORTS_PER_POST_MAX)

    def statuses(turn: int) -> list[InstrumentReport]:
        turn_numbers = numbers[turn * REPORTS_PER_POST_MAX : (turn + 1) * REPORTS_PER_POST_MAX]
        return [Status(number, 0, "idle", 0, readings) for number in turn_numbers]

    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        codes = [(await post(connection, statuses(turn))).status for turn in range(10)]
        accepted = codes.index(429)
        waiting = accepted * len(encode(Reports(1, statuses(0))))
        assert WAITING_BYTES_MAX < waiting < WAITING_BYTES_MAX + 3 * REPORTS_BODY_BYTES_MAX
        assert set(codes[accepted:]) == {429}
        response = await post(connection, statuses(accepted))
        assert 1 <= int(response.headers["retry-after"]) < 1 + REPORTS_PER_POST_MAX / FAIR_REPORTS_PER_SECOND
        other = await connect(box, pki.other_instrument, 2)
        assert (await post(other, statuses(0))).status == 200

    with_a_box(pki, scenario)


def test_waiting_alerts_take_no_more_than_their_share_of_the_spool(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.box.intake.intake.PINNED_SHARE", 0.0)

    async def scenario(box: Box, _disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        alerts: list[InstrumentReport] = [Alert(n, 0, "L0100", "lamp", "error") for n in range(1, 65)]
        assert (await post(connection, alerts)).status == 200
        response = await post(connection, [Alert(65, 0, "L0100", "lamp", "error")])
        assert (response.status, response.headers["retry-after"]) == (503, str(RETRY_SPOOL_SECONDS))
        other = await connect(box, pki.other_instrument, 2)
        assert (await post(other, alerts)).status == 200

    with_a_box(pki, scenario)


def test_connections_of_a_port_are_bounded_and_the_alarm_is_recorded(pki: Hierarchy) -> None:
    async def scenario(box: Box, _disk: EmulDisk) -> None:
        limit = port_limits(1).connections_max
        connections = [await asyncio.open_connection("127.0.0.1", box.tcp_ports[1]) for _ in range(3 * limit)]
        ended = [asyncio.ensure_future(reader.read()) for reader, _ in connections]
        await eventually(lambda: sum(end.done() for end in ended) == 2 * limit)
        assert (await post(await connect(box, pki.other_instrument, 2), quality(1))).status == 200
        assert (await post(await connect(box, pki.instrument, 1), quality(1))).status == 200
        for _, writer in connections:
            writer.close()
        await asyncio.gather(*ended, return_exceptions=True)

    async def run() -> None:
        async with (
            stand_in(pki.datacenter) as center,
            running_box(box_config(pki, center.server.port), disk()) as box,
        ):
            await scenario(box, disk())
            await center.until(lambda: "connections-over-limit" in center.audits)
            assert center.audits.count("connections-near-limit") == 1

    asyncio.run(run())


def test_reports_are_not_acknowledged_on_a_failing_disk_and_are_stored_when_repeated(pki: Hierarchy) -> None:
    async def scenario(box: Box, spool_disk: EmulDisk) -> None:
        connection = await connect(box, pki.instrument)
        assert (await post(connection, quality(1))).status == 200
        spool_disk.backend.fail_next_write(20)
        response = await post(connection, quality(2))
        assert response.status == 503
        assert int(response.headers["retry-after"]) > 0
        spool_disk.backend.let_writes_succeed()
        assert (await post(connection, quality(2))).status == 200
        assert await counts(box) == (2, 0)

    with_a_box(pki, scenario)
