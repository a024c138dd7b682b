"""Each property of a link, in both directions and at its limits."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from sim.engine.clock import Environment
from sim.net.host import Network, SimHost
from sim.net.link import Impairment, Link, LinkQuality, impaired
from sim.net.segment import HEADER_BYTES
from sim.net.tcp import ACK, SYN, TcpSegment
from sim.units import MILLISECOND_NS as MS

DIRECTIONS = ("forward", "backward")
FAST = LinkQuality(8_000_000, 10 * MS, queue_bytes_max=1 << 20)  # a byte takes a microsecond
LENGTH = 1000


class Line:
    """A link on which packets are sent in one direction; `arrived` has their numbers and times in ns."""

    def __init__(self, quality: LinkQuality, direction: str = "forward", seed: int = 1) -> None:
        self.env = Environment()
        network = Network()
        near, far = SimHost(network, "near"), SimHost(network, "far")
        self.link = Link(self.env, "line", quality, Random(seed))
        network.connect(near, far, self.link)
        self.source, target = (near, far) if direction == "forward" else (far, near)
        self.pipe = getattr(self.link, direction)
        self.other = self.link.backward if direction == "forward" else self.link.forward
        self.arrived: list[tuple[int, int]] = []
        target.receive = self._receive  # type: ignore[method-assign]

    def _receive(self, segment: TcpSegment, link: Link) -> None:
        self.arrived.append((segment.seq, self.env.now))

    def send(self, *numbers: int, length: int = LENGTH, flags: int = ACK) -> None:
        for number in numbers:
            data = bytes(length - HEADER_BYTES)
            self.link.send(self.source, TcpSegment(1, 2, "far", number, flags, data))

    def run(self, until: int | None = None) -> None:
        self.env.run(until=until)

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.arrived]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_packet_takes_its_transmission_time_and_the_delay(direction: str) -> None:
    line = Line(FAST, direction)
    line.send(1, 2)
    line.run()
    assert line.arrived == [(1, 11 * MS), (2, 12 * MS)]
    assert (line.pipe.packets, line.pipe.bytes, line.pipe.header_bytes, line.pipe.busy_ns) == (
        2,
        2000,
        80,
        2 * MS,
    )
    assert line.other.packets == line.other.bytes == 0


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_packets_keep_their_order_under_jitter(direction: str) -> None:
    line = Line(replace(FAST, jitter_ns=50 * MS), direction)
    line.send(*range(300))
    line.run()
    assert line.numbers == list(range(300))
    late = [at - (number + 1) * MS - 10 * MS for number, at in line.arrived]
    assert min(late) >= 0
    assert max(late) > 40 * MS
    assert len(set(late)) > 10


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_reordered_packets_are_overtaken_and_still_arrive(direction: str) -> None:
    line = Line(replace(FAST, reordering=0.1), direction)
    line.send(*range(300))
    line.run()
    assert sorted(line.numbers) == list(range(300))
    overtaken = [number for number, at in line.arrived if at > (number + 1) * MS + 10 * MS]
    assert 10 <= len(overtaken) <= 60
    assert all(line.numbers.index(number) > number for number in overtaken if number < 280)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_duplicated_packets_arrive_twice_and_use_the_link_once(direction: str) -> None:
    line = Line(replace(FAST, duplication=0.1), direction)
    line.send(*range(300))
    line.run()
    assert sorted(set(line.numbers)) == list(range(300))
    assert 310 <= len(line.numbers) <= 360
    assert line.pipe.packets == 300
    assert line.pipe.busy_ns == 300 * MS


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("loss", "least", "most"), [(0.0, 0, 0), (0.1, 10, 60), (1.0, 300, 300)])
def test_lost_packets_use_the_link_and_do_not_arrive(
    direction: str, loss: float, least: int, most: int
) -> None:
    line = Line(replace(FAST, loss=loss), direction)
    line.send(*range(300))
    line.run()
    assert least <= line.pipe.lost <= most
    assert len(line.numbers) == 300 - line.pipe.lost
    assert line.pipe.busy_ns == 300 * MS


def test_the_queue_accepts_packets_up_to_exactly_its_maximum() -> None:
    for over, accepted in ((0, 4), (-1, 3)):
        line = Line(replace(FAST, queue_bytes_max=3 * LENGTH + over))
        line.send(1, 2, 3, 4, 5)  # with 3 packets before it, the fourth finds exactly the maximum
        line.run()
        assert line.numbers == list(range(1, accepted + 1))
        assert (line.pipe.packets, line.pipe.lost) == (accepted, 5 - accepted)
        assert line.pipe.header_bytes == accepted * HEADER_BYTES


def test_the_options_of_a_syn_count_only_if_it_is_sent() -> None:
    line = Line(FAST)
    line.send(0, length=HEADER_BYTES, flags=SYN)
    assert (line.pipe.bytes, line.pipe.header_bytes) == (52, 52)
    line = Line(replace(FAST, queue_bytes_max=0))
    line.send(1)
    line.send(0, length=HEADER_BYTES, flags=SYN)
    assert (line.pipe.lost, line.pipe.header_bytes) == (1, HEADER_BYTES)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_packet_of_the_maximum_length_passes_and_a_longer_one_is_lost(direction: str) -> None:
    line = Line(replace(FAST, packet_bytes_max=LENGTH), direction)
    line.send(1)
    line.send(2, length=LENGTH + 1)
    line.send(3)
    line.run()
    assert line.numbers == [1, 3]
    assert line.pipe.lost == 1


IMPAIRMENTS = {
    "rate": Impairment(rate_bits=4_000_000),
    "delay": Impairment(delay_ns=30 * MS),
    "loss": Impairment(loss=1.0),
    "duplication": Impairment(duplication=1.0),
    "packet length": Impairment(packet_bytes_max=LENGTH - 1),
}
EFFECTS = {
    "rate": [(1, 12 * MS)],
    "delay": [(1, 41 * MS)],
    "loss": [],
    "duplication": [(1, 11 * MS), (1, 11 * MS)],
    "packet length": [],
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", IMPAIRMENTS)
def test_an_impairment_affects_both_directions_until_it_ends(kind: str, direction: str) -> None:
    line = Line(FAST, direction)
    end = line.link.impair(IMPAIRMENTS[kind])
    line.send(1)
    line.run(until=100 * MS)
    assert line.arrived == EFFECTS[kind]
    end()
    began = line.env.now
    line.arrived.clear()
    line.send(2)
    line.run()
    assert line.arrived == [(2, began + 11 * MS)]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_new_rate_applies_to_queued_packets_and_the_rest_of_the_current_one(direction: str) -> None:
    line = Line(FAST, direction)
    line.send(1, 2, 3)
    line.run(until=MS + MS // 2)  # the second is half sent
    line.link.impair(Impairment(rate_bits=800_000))
    line.run()
    assert line.numbers == [1, 2, 3]
    assert line.arrived[-1][1] == MS + MS // 2 + 5 * MS + 10 * MS + 10 * MS
    assert line.pipe.busy_ns == MS + MS // 2 + 5 * MS + 10 * MS


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_cut_loses_the_packets_in_transit(direction: str) -> None:
    line = Line(FAST, direction)
    line.send(1)
    line.run(until=5 * MS)
    line.link.cut()
    line.send(2)
    line.link.mend()
    line.send(3)
    line.run()
    assert line.numbers == [3]


@pytest.mark.parametrize(
    ("of_line", "of_fault", "combined"),
    [
        ({"loss": 0.5}, {"loss": 0.5}, {"loss": 1 - 0.5**3}),
        ({"duplication": 0.5}, {"duplication": 0.5}, {"duplication": 1 - 0.5**3}),
        ({"reordering": 0.5}, {"reordering": 0.5}, {"reordering": 1 - 0.5**3}),
        ({"delay_ns": 5}, {"delay_ns": 7}, {"delay_ns": 19}),
        ({"jitter_ns": 5}, {"jitter_ns": 7}, {"jitter_ns": 19}),
        ({"packet_bytes_max": 1400}, {"packet_bytes_max": 1300}, {"packet_bytes_max": 1300}),
        ({"packet_bytes_max": 1200}, {"packet_bytes_max": 1300}, {"packet_bytes_max": 1200}),
    ],
)
def test_two_equal_faults_add_to_the_lines_own_impairment(
    of_line: dict[str, Any], of_fault: dict[str, Any], combined: dict[str, Any]
) -> None:
    quality = LinkQuality(1000, **of_line)
    fault = Impairment(**of_fault)
    assert impaired(quality, []) == quality
    assert impaired(quality, [Impairment()]) == quality
    assert impaired(quality, [fault, fault]) == LinkQuality(1000, **combined)


def test_a_fault_and_the_line_lose_packets_independently() -> None:
    assert impaired(LinkQuality(1000, loss=0.5), [Impairment(loss=0.5)]).loss == 0.75


def test_a_line_without_other_properties_delays_packets_only_by_its_rate() -> None:
    line = Line(LinkQuality(8_000_000))
    line.send(1, 2)
    line.run()
    assert line.arrived == [(1, MS), (2, 2 * MS)]
    assert LinkQuality(8_000_000).is_steady
    assert not LinkQuality(8_000_000, jitter_ns=1).is_steady


def test_each_transmission_is_reported_with_its_time() -> None:
    line = Line(FAST)
    reported: list[tuple[int, int, int]] = []
    line.pipe.on_send = lambda *transmission: reported.append(transmission)
    line.send(1, 2)
    line.run(until=20 * MS)
    line.send(3, length=500)
    line.run()
    assert reported == [(0, MS, LENGTH), (MS, MS, LENGTH), (20 * MS, MS // 2, 500)]


def test_a_link_returns_the_opposite_of_each_end() -> None:
    line = Line(FAST)
    assert line.link.ends is not None
    near, far = line.link.ends
    assert (line.link.other(near), line.link.other(far)) == (far, near)
    assert line.link.name == "line"


def test_mending_a_link_that_was_not_cut_changes_nothing() -> None:
    line = Line(FAST)
    line.link.mend()
    assert line.link.up


def test_repeated_cuts_subtract_the_queued_packets_from_the_busy_time_once() -> None:
    line = Line(FAST)
    line.send(1, 2, 3)
    line.run(until=MS // 2)
    for _ in range(2):
        line.link.cut()
        line.link.mend()
    assert line.pipe.busy_ns == MS // 2


def test_retransmitted_bytes_are_added_up() -> None:
    line = Line(FAST)
    for length in (1000, 500):
        line.link.resent(line.source, length)
    assert (line.pipe.resent_bytes, line.other.resent_bytes) == (1500, 0)


def test_a_link_that_is_held_down_twice_is_up_when_both_holds_have_ended() -> None:
    line = Line(FAST)
    carriers: list[bool] = []
    line.link.on_change.append(carriers.append)
    first, second = line.link.hold_down(), line.link.hold_down()
    first()
    line.link.cut()
    line.link.cut()
    second()
    assert not line.link.up
    line.link.mend()
    line.link.mend()
    assert line.link.up and carriers == [False, True]


def test_a_manual_setting_remains_during_a_fault_until_it_is_restored() -> None:
    line = Line(FAST)
    end = line.link.impair(Impairment(loss=0.2))
    line.link.set_quality(rate_bits=64_000)
    assert line.pipe.quality == line.other.quality == replace(FAST, rate_bits=64_000, loss=0.2)
    line.link.restore()
    assert line.pipe.quality == replace(FAST, loss=0.2)
    end()
    assert line.pipe.quality == line.link.nominal == FAST


def test_setting_the_same_quality_again_does_not_change_the_order_of_packets() -> None:
    line = Line(replace(FAST, jitter_ns=50 * MS))
    line.send(*range(1, 20))
    line.link.set_quality(jitter_ns=50 * MS)
    line.send(*range(20, 40))
    line.run()
    assert line.numbers == list(range(1, 40))
