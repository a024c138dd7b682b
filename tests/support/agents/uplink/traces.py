"""Traces of the box's uplink in simulated time: each connection, batch, response and audit event, to 0.1 s.

    python -m tests.support.agents.uplink.traces

regenerates the golden files. Review the difference before committing it: each changed line is a changed decision of
the forwarder. The simulated line has no delay, so all times come from the box and the data center.
"""

from __future__ import annotations

import asyncio
import tempfile
from email.utils import formatdate
from pathlib import Path
from typing import Final

from tests.support.agents.uplink.journal import (
    Journal,
    NewConnections,
    Story,
    after,
    hang_up,
    invalid,
    last_one,
    never,
    status,
    too_many,
)
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.paths import FIXTURES
from wire.messages import Quality
from wire.pki.hierarchy import make_rsa_key
from wire.tls.context import client_context

FOLDER: Final = FIXTURES / "uplink"
SCENARIOS: Final[dict[str, Story]] = {}


def scenario(function: Story) -> Story:
    """Register the function as a scenario under its name; its docstring becomes the first line of the golden file."""
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


# -- without trouble


@scenario
async def quiet_box(world: Journal) -> None:
    """Few routine records wait 30 s for more; alerts and 64 routine records do not wait; a heartbeat every 300 s."""
    await asyncio.sleep(10)
    await world.routine(3)
    await asyncio.sleep(20)
    await world.routine(2)
    await asyncio.sleep(20)
    await world.alert()
    await asyncio.sleep(10)
    await world.routine(63)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(10)
    await world.routine(64)
    await asyncio.sleep(10)
    await world.routine(65)
    await world.alert()
    await asyncio.sleep(700)


@scenario
async def backlog(world: Journal) -> None:
    """A backlog is sent two batches at a time, each answered after 0.4 s; an alert overtakes the waiting records."""
    world.always = after(0.4)
    await world.routine(2000)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(2)
    await world.alert(5)
    await asyncio.sleep(60)


@scenario
async def answers_after_two_seconds(world: Journal) -> None:
    """A data center that answers within three seconds is not slow: several batches are in flight at once."""
    world.always = after(2.0)
    await world.routine(800)
    await asyncio.sleep(5)
    await world.alert(3)
    await asyncio.sleep(120)


# -- a slow data center


@scenario
async def slow_answers(world: Journal) -> None:
    """Batches that take 5 s: one is in flight; alerts use a second connection, which is closed when it is idle."""
    world.always = after(5.0)
    await world.routine(400)
    await asyncio.sleep(7)
    await world.alert()
    await asyncio.sleep(11)
    await world.alert(2)
    await asyncio.sleep(150)
    await world.alert()
    await asyncio.sleep(100)


@scenario
async def slow_then_quick(world: Journal) -> None:
    """The second connection is closed when responses on the first one are fast again."""
    world.answers = [after(10.0), after(0.0), after(0.0), after(10.0), after(0.0)]
    await world.routine(300)
    await asyncio.sleep(4)
    await world.alert()
    await asyncio.sleep(30)
    await world.alert()
    await asyncio.sleep(60)


@scenario
async def no_answer(world: Journal) -> None:
    """A batch is not answered: the connection ends after 20 s; later batches are smaller, with a longer timeout."""
    world.answers = [never, never, never, never, never]
    await world.routine(200)
    await asyncio.sleep(900)


@scenario
async def no_answer_to_alerts(world: Journal) -> None:
    """Neither batches nor alerts are answered on any of the connections."""
    world.answers = [never] * 6
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(300)


@scenario
async def answer_after_a_minute(world: Journal) -> None:
    """Empty lines keep a connection from being idle while a response is slow."""
    world.answers = [never, never, after(70.0), after(61.0)]
    await world.routine(50)
    await asyncio.sleep(600)


@scenario
async def gateway_timeout(world: Journal) -> None:
    """Alerts are answered 504 after 30 s on the second connection: it stays closed for ten minutes."""
    world.answers = [after(20.0), status(504, 8.0), after(20.0), after(20.0), after(20.0)]
    await world.routine(400)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(200)
    world.answers = [after(100.0)]
    await world.routine(64)
    await asyncio.sleep(2)
    await world.alert()
    await asyncio.sleep(700)
    world.answers = [after(15.0)]
    await world.routine(64)
    await asyncio.sleep(2)
    await world.alert()
    await asyncio.sleep(100)


@scenario
async def failure_on_second_connection(world: Journal) -> None:
    """Status 500 on the second connection: it stays closed for ten minutes, or for the time in Retry-After."""
    world.answers = [after(20.0), status(500), *[after(19.0)] * 60]
    await world.routine(2000)
    await asyncio.sleep(1)
    await world.alert()
    for _ in range(80):
        await asyncio.sleep(10)
        await world.alert()
    world.answers[:2] = [status(503, retry_after="900")] * 2
    world.always = after(19.0)
    await world.routine(2000)
    for _ in range(120):
        await asyncio.sleep(10)
        await world.alert()


@scenario
async def program_ends_beside_a_second_connection(world: Journal) -> None:
    """Both connections are closed at the end of the program."""
    world.answers = [after(60.0), after(60.0)]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(10)


@scenario
async def another_certificate(world: Journal) -> None:
    """After the box's certificate was replaced, the next connection uses the new one and resumes no TLS session."""
    await world.alert()
    await asyncio.sleep(60)
    world.forwarder.use(client_context(world.pki.box))
    await world.alert()
    world.center.hang_up()
    await asyncio.sleep(60)
    world.center.hang_up()
    await world.alert()
    await asyncio.sleep(10)


@scenario
async def gateway_timeout_of_batches(world: Journal) -> None:
    """Batches are cut off by a gateway after 30 s: they are halved until they are answered."""
    world.answers = [status(504, 30.0, close=True), status(504, 30.0, close=True), after(10.0), after(5.0)]
    await world.routine(1000)
    await asyncio.sleep(1200)


@scenario
async def second_connection_is_refused(world: Journal) -> None:
    """After a status other than 5xx on the second connection, the batch is sent again after a back-off."""
    world.answers = [after(60.0), status(403), status(403), after(0.0)]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(200)


@scenario
async def second_connection_is_lost(world: Journal) -> None:
    """The second connection is reset while it carries an alert, and reopened; the alert is stored once."""
    world.answers = [after(60.0), hang_up, hang_up]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(30)
    await world.alert()
    await asyncio.sleep(200)


@scenario
async def second_connection_cannot_be_opened(world: Journal) -> None:
    """The data center accepts no second connection: alerts wait for the first one."""
    world.answers = [after(30.0)]
    await world.routine(100)
    await asyncio.sleep(2)
    world.datacenter.firewall = NewConnections("reject")
    await world.alert()
    await asyncio.sleep(200)


@scenario
async def fallback_on_second_connection(world: Journal) -> None:
    """The data center does not know the second connection's stream: both connections send self-contained batches."""
    world.answers = [after(20.0), status(409)]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(30)
    await world.routine(100)
    await asyncio.sleep(60)


# -- connections that end


@scenario
async def closed_while_idle(world: Journal) -> None:
    """A connection that lasted five seconds is reopened at once, a shorter one after a back-off."""
    await world.alert()
    await asyncio.sleep(60)
    world.center.hang_up()
    await asyncio.sleep(60)
    world.center.hang_up()
    await asyncio.sleep(4)
    world.center.hang_up()
    await asyncio.sleep(60)
    await world.alert()
    await asyncio.sleep(10)


@scenario
async def reset_instead_of_an_answer(world: Journal) -> None:
    """Batches are stored, but their responses are lost: the batches are sent again, one at a time."""
    world.answers = [hang_up, hang_up, after(0.5), after(0.5), after(0.5)]
    await world.routine(300)
    await asyncio.sleep(120)


@scenario
async def one_request_per_connection(world: Journal) -> None:
    """Each response closes its connection: each batch is sent on a new connection, without a back-off."""
    world.always = last_one
    await world.routine(300)
    await asyncio.sleep(2)
    await world.alert()
    await asyncio.sleep(120)


@scenario
async def nobody_listens(world: Journal) -> None:
    """The data center cannot be reached: the intervals grow, and one audit event records it."""
    world.datacenter.firewall = NewConnections("reject")
    world.center.hang_up()
    await asyncio.sleep(300)
    world.datacenter.firewall = None
    await world.alert()
    await asyncio.sleep(100)
    world.center.hang_up()
    await asyncio.sleep(100)


@scenario
async def refused(world: Journal) -> None:
    """Refused batches are repeated after a back-off or at the time of Retry-After; the audit event has the status."""
    then = formatdate(world.clock.now_ns() / 1e9 + 300, usegmt=True)
    world.answers = [
        status(503),
        status(503, retry_after="100"),
        status(503, retry_after=then),
        status(403),
        status(500, 5.0),
    ]
    await world.alert()
    await asyncio.sleep(600)


@scenario
async def unknown_stream(world: Journal) -> None:
    """409: batches are self-contained for four hours, then a stream is tried again."""
    world.answers = [status(409)]
    await world.routine(100)
    await asyncio.sleep(60)
    world.answers = [status(409)]
    await world.routine(100)
    await asyncio.sleep(4 * 3600)
    await world.routine(100)
    await asyncio.sleep(60)
    world.center.hang_up()
    await world.routine(100)
    await asyncio.sleep(60)
    world.answers = [status(400)]
    await world.routine(100)
    await asyncio.sleep(60)


@scenario
async def invalid_replies(world: Journal) -> None:
    """Malformed replies, and replies that acknowledge too many records, do not count as acknowledgements."""
    world.answers = [invalid, too_many]
    await world.routine(70)
    await asyncio.sleep(200)


@scenario
async def rejected_record(world: Journal) -> None:
    """The data center rejects a routine record and an alert: they are discarded, and reported as a gap."""
    world.center.unreadable = lambda _, entry: getattr(entry.body, "number", 0) in (17, 71)
    await world.routine(70)
    await asyncio.sleep(60)
    await world.alert(2)
    await asyncio.sleep(60)


@scenario
async def everything_is_rejected(world: Journal) -> None:
    """The data center rejects each record: after sixteen, one is discarded every ten minutes."""
    world.center.unreadable = lambda _, entry: isinstance(entry.body, Quality)
    await world.routine(64)
    await asyncio.sleep(700)


# -- the carrier


@scenario
async def carrier_is_lost(world: Journal) -> None:
    """After five seconds without a carrier the connection continues; after six it is aborted and reopened."""
    await world.alert()
    await asyncio.sleep(20)
    for seconds in (4, 5, 6):
        world.uplink.backend.unplug()
        await asyncio.sleep(seconds)
        await world.alert()
        world.uplink.backend.plug()
        await asyncio.sleep(20)


@scenario
async def carrier_returns_during_a_back_off(world: Journal) -> None:
    """The return of the carrier ends a back-off; without a carrier nothing is dialed."""
    world.datacenter.firewall = NewConnections("reject")
    world.center.hang_up()
    await asyncio.sleep(100)
    world.uplink.backend.unplug()
    await asyncio.sleep(200)
    world.datacenter.firewall = None
    world.uplink.backend.plug()
    await asyncio.sleep(60)


@scenario
async def carrier_is_lost_while_dialing(world: Journal) -> None:
    """A dial that began six seconds before the carrier returned is aborted; a later one is not."""
    await world.alert()
    await asyncio.sleep(10)
    for seconds in (4, 6):
        world.datacenter.firewall = NewConnections("drop")
        world.center.hang_up()
        await asyncio.sleep(0.01)
        world.uplink.backend.unplug()
        await asyncio.sleep(seconds)
        world.datacenter.firewall = None
        world.uplink.backend.plug()
        await asyncio.sleep(60)


@scenario
async def carrier_is_lost_beside_a_second_connection(world: Journal) -> None:
    """A long loss of the carrier closes the second connection, too."""
    world.answers = [after(40.0), after(20.0)]
    await world.routine(100)
    await asyncio.sleep(1)
    await world.alert()
    await asyncio.sleep(10)
    world.uplink.backend.unplug()
    await asyncio.sleep(6)
    world.uplink.backend.plug()
    await asyncio.sleep(120)


# -- ranges of files


@scenario
async def ranges_on_an_idle_connection(world: Journal) -> None:
    """Ranges in either direction follow one another at once, and become larger."""
    await world.alert()
    await asyncio.sleep(10)
    for _ in range(5):
        await world.range()
        await world.upload()
    await asyncio.sleep(400)


@scenario
async def ranges_beside_reports(world: Journal) -> None:
    """Records that come during a range are sent beside it, and no second range is."""
    await world.alert()
    await asyncio.sleep(10)
    world.seconds_of_ranges, world.always = 3.0, after(1.0)
    for _ in range(2):
        transfer = asyncio.ensure_future(world.range())
        await asyncio.sleep(1)
        await world.alert()
        await transfer
    await asyncio.sleep(60)


@scenario
async def ranges_during_a_backlog(world: Journal) -> None:
    """One range every ten seconds, and no pause after the backlog."""
    await world.alert()
    await asyncio.sleep(10)
    world.seconds_of_ranges, world.always = 1.0, after(2.0)
    await world.routine(500)
    for _ in range(7):
        await world.range()
    await asyncio.sleep(60)


@scenario
async def ranges_of_a_slow_data_center(world: Journal) -> None:
    """Responses take five seconds: one range every ten seconds, while nothing else is awaited."""
    world.seconds_of_ranges, world.always = 5.0, after(5.0)
    await world.alert()
    await asyncio.sleep(10)
    transfer = asyncio.ensure_future(world.range())
    await asyncio.sleep(2)
    await world.alert()
    await transfer
    await world.range()
    await world.range()
    await asyncio.sleep(60)


@scenario
async def slow_ranges(world: Journal) -> None:
    """Ranges that take long become smaller."""
    await world.alert()
    await asyncio.sleep(10)
    for world.seconds_of_ranges in (0.0, 0.0, 0.0, 12.0, 12.0, 12.0, 0.0, 0.0):
        await world.range()
    await asyncio.sleep(60)


@scenario
async def connection_is_lost_during_a_range(world: Journal) -> None:
    """The range is requested again on the next connection; one that is never answered ends its connection."""
    await world.alert()
    await asyncio.sleep(10)
    world.seconds_of_ranges = 20.0
    transfer = asyncio.ensure_future(world.range())
    await asyncio.sleep(5)
    world.center.hang_up()
    await asyncio.sleep(5)
    world.seconds_of_ranges = 0.0
    await transfer
    world.seconds_of_ranges = 1e6
    transfer = asyncio.ensure_future(world.range())
    await asyncio.sleep(10)
    world.seconds_of_ranges = 0.0
    await transfer
    await world.alert()
    await asyncio.sleep(60)


def make_pki(folder: Path) -> Hierarchy:
    """Issue certificates with RSA keys: their signatures have a fixed length, on which the times of traces depend."""
    return Hierarchy.make(folder, make_rsa_key())


def golden(name: str, pki: Hierarchy) -> str:
    """Return the content of the golden file of a scenario."""
    world, story = Journal(pki), SCENARIOS[name]
    world.story = story
    return f"{story.__doc__}\n\n{world.text()}"


def main() -> None:
    """Write the golden file of each scenario."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pki = make_pki(Path(folder))
        for name in SCENARIOS:
            (FOLDER / f"{name}.txt").write_text(golden(name, pki), "utf-8")


if __name__ == "__main__":
    main()
