"""TIME-WAIT: the end that closed a connection first answers a repeated FIN for a minute, even if its programs end."""

from __future__ import annotations

from sim.net.link import LinkEnd
from sim.net.segment import ACK, FIN, RST, SYN, TcpSegment
from sim.net.tcp.time_wait import TIME_WAIT_NS, TimeWait
from tests.support.sim.traced import Traced


def closed(*, client_first: bool = True) -> tuple[Traced, TcpSegment]:
    """Return a pair whose connection has ended, and the FIN of the end that closed last."""
    pair = Traced()
    sent: list[tuple[str, TcpSegment]] = []
    send = pair.link.send

    def noted(source: LinkEnd, segment: TcpSegment) -> None:
        sent.append((source.name, segment))
        send(source, segment)

    pair.link.send = noted  # type: ignore[method-assign]
    pair.open()
    (pair.client if client_first else pair.server).transport.close()
    pair.wait(1000)
    pair.lines.clear()
    (fin,) = (s for name, s in sent if s.flags & FIN and name == ("b" if client_first else "a"))
    return pair, fin


def answers(pair: Traced, fin: TcpSegment, *, to: str = "a") -> list[str]:
    """Return the segments that the end `to` sends when it receives `fin` again."""
    source, target = (pair.b, pair.a) if to == "a" else (pair.a, pair.b)
    pair.lines.clear()
    target.receive(fin, pair.link)
    assert source.incarnation is not None
    pair.wait(1000)
    return [line.split(maxsplit=2)[2] for line in pair.lines if line.split()[1] == to]


def test_a_repeated_fin_is_acknowledged() -> None:
    pair, fin = closed()
    assert answers(pair, fin) == [".   seq 2 len 0 ack 2 win 64256"]


def test_a_repeated_fin_is_acknowledged_by_either_end_after_crossing_closes() -> None:
    pair = Traced()
    pair.open()
    pair.server.transport.close()
    pair.close()
    fin = TcpSegment(80, 32768, "a", 1, FIN | ACK, b"", 1)
    assert answers(pair, fin) == [".   seq 2 len 0 ack 2 win 64256"]
    assert answers(pair, TcpSegment(32768, 80, "b", 1, FIN | ACK, b"", 1), to="b") == [
        ".   seq 2 len 0 ack 2 win 64256"
    ]


def test_a_repeated_fin_is_acknowledged_after_the_programs_were_killed() -> None:
    pair, fin = closed()
    pair.a.kill()
    assert answers(pair, fin) == [".   seq 2 len 0 ack 2 win 64256"]


def test_a_host_that_lost_power_resets_an_old_connection() -> None:
    pair, fin = closed()
    pair.a.power_off()
    pair.a.power_on()
    assert answers(pair, fin) == ["R   seq 2 len 0 ack 1 win 0"]


def test_the_end_that_closed_last_keeps_no_state() -> None:
    pair, fin = closed(client_first=False)
    assert pair.a.incarnation is not None
    assert pair.b.incarnation is not None
    assert (len(pair.a.incarnation.time_wait), len(pair.b.incarnation.time_wait)) == (0, 1)
    assert answers(pair, fin, to="b") == [".   seq 2 len 0 ack 2 win 64256"]


def test_the_state_ends_after_a_minute() -> None:
    pair, fin = closed()
    pair.wait(60_000)
    assert answers(pair, fin) == ["R   seq 2 len 0 ack 1 win 0"]


def test_a_repeated_fin_extends_the_state_by_a_minute() -> None:
    waiting = TimeWait[str]()
    fin, last = TcpSegment(1, 80, "b", 1, ACK | FIN, b"", 2), TcpSegment(80, 1, "a", 2, ACK, b"", 2)
    waiting.add("flow", last, 0)
    assert waiting.receive("flow", fin, TIME_WAIT_NS - 1) == (True, last)
    assert waiting.receive("flow", fin, 2 * TIME_WAIT_NS - 2) == (True, last)
    assert waiting.receive("flow", fin, 3 * TIME_WAIT_NS - 2) == (False, None)


def test_a_pure_acknowledgement_is_not_answered() -> None:
    waiting = TimeWait[str]()
    last = TcpSegment(80, 1, "a", 2, ACK, b"", 2)
    waiting.add("flow", last, 0)
    assert waiting.receive("flow", TcpSegment(1, 80, "b", 2, ACK, b"", 2), 1) == (True, None)
    assert waiting.receive("other", TcpSegment(1, 80, "b", 2, ACK | FIN, b"", 2), 1) == (False, None)


def test_a_reset_or_a_new_connection_ends_the_state() -> None:
    waiting = TimeWait[str]()
    for flags, known in ((RST, True), (SYN, False)):
        waiting.add("flow", TcpSegment(80, 1, "a", 2, ACK, b"", 2), 0)
        assert waiting.receive("flow", TcpSegment(1, 80, "b", 2, flags), 1) == (known, None)
        assert not len(waiting)


def test_expired_states_are_removed_when_the_next_one_is_added() -> None:
    waiting = TimeWait[int]()
    last = TcpSegment(80, 1, "a", 2, ACK, b"", 2)
    for flow in range(1000):
        waiting.add(flow, last, flow * TIME_WAIT_NS // 10)
    assert len(waiting) == 10
