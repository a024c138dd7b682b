"""The forwarder with a misbehaving data center: records are neither lost nor duplicated, and alerts come first."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import agents.box.uplink.forwarder
import agents.box.uplink.stream
import wire.dial.backoff
from agents.box.configuration.defaults import LINGER_SECONDS
from agents.box.uplink.forwarder import CARRIER_LOSS_SECONDS_MAX, DISCARDS_BURST, STEADY_SECONDS
from agents.spool import Priority
from settings.types import Endpoint, Proxy
from sim.net.link import LinkQuality
from tests.support.agents.stand_in import Misbehave, StandIn, stand_in
from tests.support.agents.uplink.forwarding import Bench, drained, forwarding
from tests.support.agents.uplink.uplinked import World
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually
from wire.dial.dialer import UNACKNOWLEDGED_MS_MAX, dial
from wire.http.connection import ClientConnection, Response
from wire.messages import Alert, Audit, BatchRefusal, BatchReply, Command, Entry, Quality, decode, encode
from wire.tls.context import client_context


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limit back-off delays to 2 ms, and lift the limit of connection attempts."""
    monkeypatch.setattr(agents.box.uplink.forwarder, "DIALS_BURST", 1_000_000)
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MIN", 0.0)
    monkeypatch.setattr(wire.dial.backoff, "DELAY_SECONDS_MAX", 0.002)
    yield


Scenario = Callable[[StandIn, Bench], Awaitable[None]]


def with_a_forwarder(pki: Hierarchy, scenario: Scenario, **options: Any) -> None:
    async def run() -> None:
        async with (
            stand_in(pki.datacenter) as center,
            forwarding(pki, center.server.port, **options) as bench,
        ):
            await scenario(center, bench)

    asyncio.run(run())


def test_a_backlog_arrives_completely_and_in_order_with_aes_128(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        await drained(bench)
        assert center.reports == [("CHEM-1", 1, n) for n in range(1, 5001)]
        traffic = bench.forwarder.traffic
        assert traffic.cipher == "TLS_AES_128_GCM_SHA256"
        assert traffic.records == len(center.stored)
        assert traffic.batches == len(center.batches) < 200
        assert 0 < traffic.body_bytes_sent < 5000 * 20
        assert traffic.head_bytes_sent > 0 < traffic.head_bytes_received

    with_a_forwarder(pki, scenario, backlog=5000)


def server_error(_answer: Response) -> Response:
    return Response(503, headers={"retry-after": "0"})


def refused(_answer: Response) -> Response:
    return Response(403)


def nonsense(_answer: Response) -> Response:
    return Response(200, b"<html>Welcome to the hotel's network</html>")


def acknowledge_unsent(_answer: Response) -> Response:
    return Response(200, encode(BatchReply(10_000)))


def sessions_wait(_answer: Response) -> Response:
    return Response(200, encode(BatchReply(1, sessions=True)))


def silence(_answer: Response) -> None:
    return None


@pytest.mark.parametrize("misbehaviour", [server_error, refused, nonsense, acknowledge_unsent, silence])
def test_an_invalid_reply_is_not_an_acknowledgement(
    pki: Hierarchy, misbehaviour: Misbehave, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents.box.uplink.stream, "REPLY_SECONDS", 0.02)

    async def scenario(center: StandIn, bench: Bench) -> None:
        center.misbehaviours.extend([misbehaviour, misbehaviour])
        await bench.routine(500)
        await drained(bench)
        assert sorted(center.reports) == [("CHEM-1", 1, n) for n in range(1, 501)]
        assert center.repeated > 0
        assert bench.forwarder.traffic.connections >= 2

    with_a_forwarder(pki, scenario)


def test_a_reply_that_names_sessions_is_passed_on(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        await bench.alert(1)
        await drained(bench)
        assert not bench.sessions_waiting.is_set()
        center.misbehaviours.append(sessions_wait)
        await bench.alert(2)
        await bench.sessions_waiting.wait()

    with_a_forwarder(pki, scenario)


def test_each_part_of_a_reply_is_passed_on(pki: Hierarchy) -> None:
    command = Command(1, "CHEM-1", "help-file", b"body")

    def full(_answer: Response) -> Response:
        return Response(
            200, encode(BatchReply(1, [command], [7], sessions=True, updates=True, denied=["CHEM-2"]))
        )

    async def scenario(center: StandIn, bench: Bench) -> None:
        await bench.alert(1)
        await drained(bench)
        assert not (bench.commands or bench.withdrawn or bench.denied or bench.update_news.is_set())
        center.misbehaviours.append(full)
        await bench.alert(2)
        await bench.update_news.wait()
        assert (bench.commands, bench.withdrawn, bench.denied) == ([command], [7], ["CHEM-2"])
        assert bench.sessions_waiting.is_set()

    with_a_forwarder(pki, scenario)


def test_an_acknowledgement_lost_with_its_connection_causes_no_duplicate(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        async def hang_up() -> None:
            if len(center.batches) in (2, 5):
                center.hang_up()

        center.before_answer = hang_up
        await bench.routine(3000)
        await drained(bench)
        assert center.reports == [("CHEM-1", 1, n) for n in range(1, 3001)]
        assert center.repeated > 0
        await eventually(lambda: center.audits.count("uplink-restored") >= 2)
        assert 1 <= center.audits.count("uplink-lost") <= 2

    with_a_forwarder(pki, scenario, linger_s=0.0)


def test_reconnecting_resumes_the_tls_session_and_an_idle_close_is_not_an_outage(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents.box.uplink.forwarder, "STEADY_SECONDS", 0.0)

    async def scenario(center: StandIn, bench: Bench) -> None:
        await bench.alert(1)
        await center.until(lambda: center.alerts == [1] and "uplink-restored" in center.audits)
        await drained(bench)
        center.hang_up()
        await eventually(lambda: bench.forwarder.traffic.connections == 2 and bench.forwarder.is_connected)
        await bench.alert(2)
        await center.until(lambda: center.alerts == [1, 2])
        assert bench.forwarder.traffic.resumed == 1
        assert "uplink-lost" not in center.audits

    with_a_forwarder(pki, scenario)


@pytest.mark.parametrize("is_made_before", [False, True], ids=["dialed afterwards", "made before"])
def test_reconnecting_replaces_the_connection_at_once(pki: Hierarchy, is_made_before: bool) -> None:
    async def scenario(world: World) -> None:
        await append_routine(world, range(1, 100))
        await eventually(lambda: len(world.center.reports) == 99)
        [before] = world.center.connected
        world.forwarder.reconnect(await world.forwarder.connect() if is_made_before else None)
        await append_routine(world, range(100, 200))
        await eventually(lambda: len(world.center.reports) == 199)
        [after] = world.center.connected
        assert after is not before
        assert world.forwarder.traffic.connections == 2

    in_simulated_time(pki, scenario)


async def resumed_alert(center: StandIn, bench: Bench) -> None:
    """Deliver an alert on one connection, close it, and deliver another alert, whose connection may resume."""
    await bench.alert(1)
    await center.until(lambda: center.alerts == [1] and "uplink-restored" in center.audits)
    await drained(bench)
    center.hang_up()
    await bench.alert(2)
    await drained(bench)
    assert center.alerts == [1, 2]


def test_a_tls_session_that_the_data_center_drops_is_not_offered_again(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        dropped = 0

        async def drop_resumed() -> None:
            nonlocal dropped
            dropped += center.drop_resumed()

        center.before_answer = drop_resumed
        await resumed_alert(center, bench)
        assert dropped == 1

    with_a_forwarder(pki, scenario)


PRE_SHARED_KEY = b"\x00\x29\x00"
"""Type and first length byte of the extension with which a ClientHello offers a TLS session (RFC 8446, 4.2.11)."""


class ResumptionResettingRelay:
    """A relay in front of the data center that resets a connection whose ClientHello offers a TLS session."""

    def __init__(self, port: int) -> None:
        self.port, self.reset = port, 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.read(65536)
        if PRE_SHARED_KEY in hello:
            self.reset += 1
            writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.port)
        upstream_writer.write(hello)
        await asyncio.gather(carry(reader, upstream_writer), carry(upstream_reader, writer))


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


def test_a_tls_session_whose_handshake_fails_is_not_offered_again(pki: Hierarchy) -> None:
    async def run() -> None:
        async with stand_in(pki.datacenter) as center:
            relay = ResumptionResettingRelay(center.server.port)
            server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
            async with server, forwarding(pki, server.sockets[0].getsockname()[1]) as bench:
                await resumed_alert(center, bench)
                assert relay.reset == 1
                server.close()

    asyncio.run(run())


def test_an_alert_overtakes_a_backlog(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        async def raise_an_alert() -> None:
            if len(center.batches) == 2:
                await bench.alert(99_999)

        center.before_answer = raise_an_alert
        await drained(bench)
        index = next(
            i for i, batch in enumerate(center.batches) if any(isinstance(e.body, Alert) for e in batch)
        )
        assert index <= 4  # two routine batches were already in flight
        assert len(center.batches) > 8
        assert len(center.batches[index]) <= 3  # and the backlog was not in the same batch

    with_a_forwarder(pki, scenario, backlog=9000)


def in_simulated_time(pki: Hierarchy, scenario: Callable[[World], Awaitable[None]]) -> None:
    class Scenario(World):
        async def live(self) -> None:
            await scenario(self)

    Scenario(pki, LinkQuality(1_000_000, 20_000_000)).run()


async def append_routine(world: World, numbers: range) -> None:
    entries = [encode(Entry("CHEM-1", 1, Quality(n, 0, "glu", 1, n))) for n in numbers]
    await world.buffer.append_all([Priority.ROUTINE] * len(entries), entries)


def test_few_routine_records_wait_for_a_fuller_batch_or_an_alert(pki: Hierarchy) -> None:
    async def scenario(world: World) -> None:
        await eventually(lambda: world.forwarder.is_connected)
        await append_routine(world, range(1, 64))
        await asyncio.sleep(0.9 * LINGER_SECONDS)
        assert world.center.reports == []
        alert = Entry("CHEM-1", 1, Alert(100, 0, "L0100", "lamp", "error"))
        await world.buffer.append(Priority.ALERT, encode(alert))
        await eventually(lambda: len(world.center.reports) == 64)
        batch = next(batch for batch in world.center.batches if any(isinstance(e.body, Alert) for e in batch))
        assert len(batch) >= 64
        await append_routine(world, range(101, 165))
        await eventually(lambda: len(world.center.reports) == 128)

    in_simulated_time(pki, scenario)


def test_a_routine_record_is_sent_when_its_linger_time_ends(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        await bench.routine(1)
        await center.until(lambda: len(center.reports) == 1)
        await bench.routine(1)
        await center.until(lambda: len(center.reports) == 2)

    with_a_forwarder(pki, scenario, linger_s=0.005)


def test_a_heartbeat_after_silence_fetches_commands(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        center.commands = [Command(1, "CHEM-1", "help-file", b"body")]
        await eventually(lambda: center.audits.count("alive") >= 2 and bool(bench.commands))
        assert bench.commands[0] == center.commands[0]

    with_a_forwarder(pki, scenario, heartbeat_s=0.01)


def test_without_a_carrier_no_connection_is_attempted_and_its_return_triggers_one(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def counted_dial(*arguments: Any, **options: Any) -> ClientConnection:
        nonlocal attempts
        attempts += 1
        return await dial(*arguments, **options)

    monkeypatch.setattr(agents.box.uplink.forwarder, "dial", counted_dial)

    async def scenario(world: World) -> None:
        await append_routine(world, range(1, 100))
        await eventually(lambda: len(world.center.reports) == 99)
        world.uplink.backend.unplug()
        world.center.hang_up()
        await eventually(lambda: not world.forwarder.is_connected)
        await asyncio.sleep(3600)
        assert attempts == world.forwarder.traffic.connections == 1
        world.uplink.backend.plug()
        await eventually(lambda: world.forwarder.traffic.connections == 2)

    in_simulated_time(pki, scenario)


def test_a_connection_is_aborted_after_a_long_loss_of_carrier(pki: Hierarchy) -> None:
    async def scenario(world: World) -> None:
        await eventually(lambda: world.forwarder.is_connected)
        for seconds, connections in ((0.9, 1), (1.1, 2)):
            world.uplink.backend.unplug()
            await asyncio.sleep(seconds * CARRIER_LOSS_SECONDS_MAX)
            world.uplink.backend.plug()
            await asyncio.sleep(10)
            assert world.forwarder.traffic.connections == connections

    in_simulated_time(pki, scenario)


def test_the_return_of_the_carrier_aborts_a_hanging_dial(
    pki: Hierarchy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        accepted = 0

        async def accept_without_handshake(
            reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
        ) -> None:
            nonlocal accepted
            accepted += 1
            await reader.read()

        server = await asyncio.start_server(accept_without_handshake, "127.0.0.1", 0)
        async with server, forwarding(pki, server.sockets[0].getsockname()[1]) as bench:
            await eventually(lambda: accepted == 1)
            monkeypatch.setattr(agents.box.uplink.forwarder, "CARRIER_LOSS_SECONDS_MAX", -1.0)
            bench.uplink.backend.unplug()
            bench.uplink.backend.plug()
            await eventually(lambda: accepted == 2)

    asyncio.run(scenario())


def test_a_proxy_that_refuses_the_credentials_is_recorded_with_a_rate_limit(pki: Hierarchy) -> None:
    async def scenario() -> None:
        refusals = 0

        async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal refusals
            refusals += 1
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        proxy = Proxy("http", "127.0.0.1", server.sockets[0].getsockname()[1], "lab", "wrong")
        async with server, forwarding(pki, 443, proxy=proxy) as bench:
            await eventually(lambda: refusals > 30)
            entries = await bench.buffer.read(Priority.AUDIT, 1000, 100_000)
            bodies = [decode(Entry, entry).body for _, entry in entries]
            noted = [(body.event, body.value) for body in bodies if isinstance(body, Audit)]
            assert noted.count(("proxy-refused-auth", 0)) == 10
            assert bench.audit.suppressed >= 20

    asyncio.run(scenario())


def test_a_data_center_with_a_certificate_for_another_name_is_not_trusted(pki: Hierarchy) -> None:
    async def scenario() -> None:
        async with stand_in(pki.box_server) as center, forwarding(pki, center.server.port) as bench:
            await bench.routine(100)
            await eventually(lambda: bench.audit.suppressed > 0)
            assert await bench.waiting() > 100
            assert center.stored == {}
            entries = await bench.buffer.read(Priority.AUDIT, 100, 100_000)
            assert any(b"far-end-not-trusted" in entry for _, entry in entries)

    asyncio.run(scenario())


class RecordingTrust:
    """Counts the calls of the forwarder to the diagnosis of certificates."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []
        self.successes = 0

    async def examine(self, error: Exception) -> None:
        self.errors.append(error)

    def trusted(self) -> None:
        self.successes += 1


def test_the_diagnosis_of_certificates_examines_each_failed_connection(pki: Hierarchy) -> None:
    async def scenario() -> None:
        trust: Any = RecordingTrust()
        async with (
            stand_in(pki.box_server) as center,
            forwarding(pki, center.server.port, trust=trust),
        ):
            await eventually(lambda: len(trust.errors) >= 2)
        assert all(isinstance(error, ssl.SSLCertVerificationError) for error in trust.errors)
        assert trust.successes == 0

    asyncio.run(scenario())


def test_a_discarded_record_is_not_reported_as_a_certificate_problem(pki: Hierarchy) -> None:
    trust: Any = RecordingTrust()

    async def scenario(center: StandIn, bench: Bench) -> None:
        center.unreadable = lambda _sequence, entry: getattr(entry.body, "number", 0) == 7
        await bench.routine(20)
        await drained(bench)
        assert center.refusals == 1 and trust.errors == []
        assert trust.successes == bench.forwarder.traffic.connections == 2

    with_a_forwarder(pki, scenario, trust=trust)


def test_a_batch_full_of_alerts_does_not_make_routine_records_wait(pki: Hierarchy) -> None:
    class Mixed(World):
        async def fill(self) -> None:
            await append_routine(self, range(1, 11))
            alerts = [encode(Entry("CHEM-1", 2, Alert(n, 0, "L0100", "lamp", "error"))) for n in range(1, 71)]
            await self.buffer.append_all([Priority.ALERT] * len(alerts), alerts)

        async def live(self) -> None:
            await asyncio.sleep(2 * LINGER_SECONDS)
            assert len(self.center.reports) == 80

    Mixed(pki, LinkQuality(1_000_000, 20_000_000)).run()


@pytest.mark.parametrize(("short_s", "lost"), [(0.5, 0), (-0.5, 1)], ids=["long enough", "too short"])
def test_an_idle_close_is_an_outage_only_soon_after_the_connection_began(
    pki: Hierarchy, short_s: float, lost: int
) -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(100)
        await append_routine(world, range(1, 65))
        await eventually(lambda: len(world.center.reports) == 64)
        await asyncio.sleep(1)
        world.center.hang_up()
        await eventually(lambda: world.forwarder.traffic.connections == 2 and world.forwarder.is_connected)
        await append_routine(world, range(65, 129))
        await asyncio.sleep(STEADY_SECONDS + short_s)
        assert len(world.center.reports) == 128
        world.center.hang_up()
        await asyncio.sleep(60)
        await append_routine(world, range(129, 193))
        await eventually(lambda: len(world.center.reports) == 192)
        await asyncio.sleep(60)
        assert world.center.audits.count("uplink-lost") == lost

    in_simulated_time(pki, scenario)


def test_a_rejected_record_is_discarded_by_number_and_does_not_block_others(
    pki: Hierarchy,
) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        poison = {("CHEM-1", 100), ("CHEM-1", 7)}
        center.unreadable = lambda _sequence, entry: (
            (entry.instrument, getattr(entry.body, "number", None)) in poison
        )
        await bench.routine(200)
        await bench.alert(7)
        await bench.alert(8)
        await drained(bench)
        assert center.alerts == [8]
        assert {n for *_, n in center.reports} == {*range(1, 201)} - {7, 100}
        missing = set(range(1, (await bench.buffer.status()).next_seq)) - {seq for _, seq in center.stored}
        assert len(missing) == 3, "routine reports 7 and 100, and alert 7"
        assert all(gap.reason == "refused" and gap.records == 1 for gap in center.gaps)
        assert {gap.ranges for gap in center.gaps} == {((seq, seq),) for seq in missing}

    with_a_forwarder(pki, scenario)


def test_a_data_center_that_rejects_everything_causes_few_discarded_records(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        await bench.routine(200)
        center.unreadable = lambda _sequence, entry: bool(entry.instrument)
        await eventually(lambda: center.refusals > DISCARDS_BURST + 10)
        center.unreadable = lambda _sequence, _entry: False
        await drained(bench)
        assert len(center.reports) == 200 - DISCARDS_BURST
        assert sum(gap.records for gap in center.gaps) == DISCARDS_BURST

    with_a_forwarder(pki, scenario, linger_s=0.0)


@pytest.mark.parametrize(
    "blame",
    [
        lambda epoch, sequence: BatchRefusal(epoch, sequence + 1000),
        lambda epoch, sequence: BatchRefusal(epoch ^ 1, sequence),
        lambda _epoch, sequence: BatchReply(sequence),
    ],
    ids=["not in the batch", "of another epoch", "another message"],
)
def test_only_a_record_of_the_rejected_batch_is_discarded(
    pki: Hierarchy, blame: Callable[[int, int], BatchRefusal]
) -> None:
    async def scenario(center: StandIn, bench: Bench) -> None:
        center.blame = blame  # type: ignore[assignment]
        center.unreadable = lambda _sequence, entry: isinstance(entry.body, Alert)
        await bench.routine(10)
        await bench.alert(11)
        await eventually(lambda: center.refusals > 5)
        center.unreadable = lambda _sequence, _entry: False
        await drained(bench)
        assert len(center.reports) == 11 and center.gaps == []

    with_a_forwarder(pki, scenario)


def test_the_kernel_ends_a_connection_on_which_nothing_is_acknowledged(pki: Hierarchy) -> None:
    async def scenario(center: StandIn, _bench: Bench) -> None:
        connection = await dial(
            Endpoint("127.0.0.1", center.server.port), client_context(pki.box), reply_bytes_max=999
        )
        assert connection.transport is not None
        line = connection.transport.get_extra_info("socket")
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNACKNOWLEDGED_MS_MAX
        connection.abort()

    with_a_forwarder(pki, scenario)
