"""Scenarios of packet traces: how TCP connections begin and end."""

from __future__ import annotations

from typing import Final

from sim.net.link import LinkQuality
from sim.net.segment import MSS
from tests.support.sim.traced import MS, Traced, Verdicts, scenario

MEDIUM: Final = LinkQuality(1_000_000, 40 * MS, queue_bytes_max=64 * 1024)


@scenario
def request_and_reply() -> Traced:
    """Each end sends 100 bytes; a closes, then b."""
    pair = Traced()
    pair.server.echo = True
    pair.upload(100, 100)
    return pair


@scenario
def server_closes_first() -> Traced:
    """b sends 3000 bytes and closes; a follows."""
    pair = Traced()
    pair.open()
    pair.server.transport.write(bytes(3000))
    pair.server.transport.close()
    pair.wait(2000)
    return pair


@scenario
def both_close_at_once() -> Traced:
    """The FINs cross each other."""
    pair = Traced()
    pair.open()
    pair.server.transport.close()
    pair.close()
    return pair


@scenario
def server_closes_and_client_waits() -> Traced:
    """b sends 3000 bytes and closes; a closes a second later."""
    pair = Traced()
    pair.client.half_open = True
    pair.open()
    pair.server.transport.write(bytes(3000))
    pair.server.transport.close()
    pair.wait(1000)
    pair.close()
    return pair


@scenario
def both_close_after_an_exchange() -> Traced:
    """Each end sends 100 bytes; then the FINs cross each other."""
    pair = Traced()
    pair.server.echo = True
    pair.open()
    pair.client.transport.write(bytes(100))
    pair.wait(1000)
    pair.server.transport.close()
    pair.close()
    return pair


@scenario
def both_close_after_an_upload() -> Traced:
    """a sends 100 kB; then the FINs cross each other."""
    pair = Traced()
    pair.open()
    pair.client.transport.write(bytes(100_000))
    pair.wait(1000)
    pair.lines.clear()
    pair.server.transport.close()
    pair.close()
    return pair


@scenario
def both_ends_of_crossing_closes_are_lost() -> Traced:
    """The FINs cross each other, and both are lost."""
    pair = Traced(a={3}, b={2})
    pair.open()
    pair.server.transport.close()
    pair.close()
    return pair


@scenario
def last_acknowledgement_is_lost() -> Traced:
    """a closes, then b; the acknowledgement of b's FIN is lost, so that b repeats it."""
    pair = Traced(a={5, 6})
    pair.upload(100, 500)
    pair.wait(120_000)
    return pair


@scenario
def handshake_is_lost() -> Traced:
    """Two SYNs and two answers to them are lost, then the acknowledgement and the first data."""
    pair = Traced(a={1, 2, 5, 6}, b={1, 2})
    pair.open(16_000)
    pair.client.transport.write(bytes(6 * MSS))
    pair.wait(5000)
    pair.close()
    return pair


@scenario
def no_listener() -> Traced:
    """b has no listener: the connection is refused."""
    pair = Traced()
    pair.connect()
    return pair


@scenario
def no_answer() -> Traced:
    """b has no power: a gives up."""
    pair = Traced()
    pair.b.power_off()
    pair.connect(200_000)
    return pair


@scenario
def attempt_is_ended() -> Traced:
    """a's program gives up before b answers; b's answer is reset."""
    pair = Traced(MEDIUM)
    pair.listen()
    task = pair.on(pair.a, pair.loop.create_connection(lambda: pair.client, "b", 80))
    pair.wait(20)
    task.cancel()
    pair.wait(5000)
    return pair


@scenario
def killed_client() -> Traced:
    """a's programs are killed while data is on its way in both directions."""
    pair = Traced(MEDIUM)
    pair.server.echo = True
    pair.open()
    pair.client.transport.write(bytes(20_000))
    pair.wait(100)
    pair.a.kill()
    pair.wait(2000)
    return pair


@scenario
def closed_client_refuses_data() -> Traced:
    """a closes while b still sends: a resets the connection."""
    pair = Traced(MEDIUM)
    pair.open()
    pair.server.transport.write(bytes(20_000))
    pair.wait(60)
    pair.close()
    return pair


@scenario
def restarted_host() -> Traced:
    """b loses power and returns; it resets a connection that it does not know."""
    pair = Traced(MEDIUM)
    pair.open()
    pair.b.power_off()
    pair.b.power_on()
    pair.client.transport.write(bytes(100))
    pair.wait(2000)
    return pair


@scenario
def last_segments_are_lost() -> Traced:
    """a's FIN, b's FIN and acknowledgements of them are lost."""
    pair = Traced(a={4, 5}, b={3, 4, 5})
    pair.upload(1000, 500)
    pair.wait(20_000)
    return pair


@scenario
def own_firewall_rejects_connection() -> Traced:
    """a's packet filter rejects the SYN."""
    pair = Traced()
    pair.a.firewall = Verdicts("reject", "accept")
    pair.connect()
    return pair


@scenario
def firewall_rejects_connection() -> Traced:
    """b's packet filter rejects the SYN."""
    pair = Traced()
    pair.listen()
    pair.b.firewall = Verdicts("accept", "reject")
    pair.connect()
    return pair


@scenario
def firewall_rejects_established() -> Traced:
    """b's packet filter begins to reject an established connection: a tries until it gives up."""
    pair = Traced()
    pair.open()
    pair.b.firewall = Verdicts("accept", "reject")
    pair.client.transport.write(bytes(5000))
    pair.wait(2_000_000)
    return pair


@scenario
def firewall_rejects_for_a_time() -> Traced:
    """b's packet filter rejects an established connection, and accepts it before a gives up; then b has no power."""
    pair = Traced()
    pair.open()
    pair.b.firewall = Verdicts("accept", "reject")
    pair.client.transport.write(bytes(5000))
    pair.wait(3000)
    pair.b.firewall = None
    pair.wait(3000)
    pair.b.power_off()
    pair.client.transport.write(bytes(100))
    pair.wait(2_000_000)
    return pair
