"""IP options: the model accepts the same packets as the kernel."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random

import pytest

from bench.firewall.namespace import BoxNamespace, enter_namespace
from bench.firewall.packets import PacketGenerator
from netfw.model.ip_options import hop_by_hop_options_are_valid, ipv4_options_are_valid
from netfw.model.packet import HOP_BY_HOP, UDP, PacketError, ip, parse, udp
from netfw.model.packet_filter import PacketFilterModel
from netfw.policy.policyfile import load_policy
from netfw.ruleset.render import render
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.netfw.boxlab import POLICIES

pytestmark = pytest.mark.kernel

POLICY = load_policy(POLICIES / "clinic.toml")
PORT = POLICY.ports[0].interface
SOURCE, TARGET = {4: "10.77.1.5", 6: "fd00:77:1::5"}, {4: "10.77.1.1", 6: "fd00:77:1::1"}
RANDOM_CASES = 600

IPV4 = {
    "none": (b"", True),
    "end at once": (b"\0\xff\xff\xff", True),
    "nothing": (b"\1\1\1\1", True),
    "record route": (b"\x07\x07\x04\0\0\0\0\0", True),
    "record route, full": (b"\x07\x07\x08\0\0\0\0\0", True),
    "record route, pointer too small": (b"\x07\x07\x03\0\0\0\0\0", False),
    "record route, no room": (b"\x07\x07\x05\0\0\0\0\0", False),
    "record route twice": (b"\x07\x07\x04\0\0\0\0\x07\x07\x04\0\0\0\0\0\0", False),
    "timestamp": (b"\x44\x08\x05\0\0\0\0\0", True),
    "timestamp with address": (b"\x44\x0c\x05\1\0\0\0\0\0\0\0\0", True),
    "timestamp with address, room for less": (b"\x44\x0c\x09\1\0\0\0\0\0\0\0\0", False),
    "timestamp with given address, room for less": (b"\x44\x0c\x09\3\0\0\0\0\0\0\0\0", False),
    "timestamp, full": (b"\x44\x08\x09\0\0\0\0\0", True),
    "timestamp, overflow full": (b"\x44\x08\x09\xf0\0\0\0\0", False),
    "timestamp of given addresses, overflow full": (b"\x44\x08\x09\xf3\0\0\0\0", True),
    "timestamp, too short": (b"\x44\x03\x05\0", False),
    "router alert": (b"\x94\x04\0\0", True),
    "router alert, short": (b"\x94\x03\0\0", False),
    "loose source route": (b"\x83\x07\x04\1\2\3\4\0", False),
    "strict source route": (b"\x89\x07\x04\1\2\3\4\0", False),
    "like a source route but not copied": (b"\x03\x04\0\0", True),
    "CIPSO": (b"\x86\x0a\0\0\0\1\1\4\0\0\0\0", False),
    "unknown": (b"\x4d\x04\0\0", True),
    "length 0": (b"\x4d\0\0\0", False),
    "length 1": (b"\x4d\1\0\0", False),
    "beyond the end": (b"\x4d\x05\0\0", False),
    "no length": (b"\1\1\1\x4d", False),
}
HOP = {
    "padding": (b"\1\4\0\0\0\0", True),
    "seven bytes of padding": (b"\0\1\4\0\0\0\0\x1e\0\1\1\0\0\0", True),
    "eight bytes of padding": (b"\0\0\0\0\0\0\0\0\x1e\2\0\0\0\0", False),
    "padding that is not zero": (b"\1\4\0\0\0\1", False),
    "padding beyond the end": (b"\1\5\0\0\0\0", False),
    "router alert": (b"\5\2\0\0\1\0", True),
    "router alert, long": (b"\5\4\0\0\0\0", False),
    "jumbo of a short packet": (b"\xc2\4\0\1\0\0", False),
    "jumbo that is no jumbogram": (b"\xc2\4\0\0\0\x40", False),
    "jumbo at a wrong offset": (b"\0\xc2\4\0\1\0\0\1\3\0\0\0\0\0", False),
    "unknown, to be skipped": (b"\x1e\4\0\0\0\0", True),
    "unknown, to be dropped": (b"\x5e\4\0\0\0\0", False),
    "unknown, to be reported": (b"\x9e\4\0\0\0\0", False),
    "eight options": (b"\x1e\0" * 8 + b"\1\4\0\0\0\0", True),
    "nine options": (b"\x1e\0" * 9 + b"\1\2\0\0", False),
    "IOAM at 4n + 2": (b"\x31\2\0\0\0\0", False),
    "IOAM at 4n": (b"\1\0\x31\2\0\0", True),
    "CALIPSO": (b"\7\x08" + bytes(8) + b"\1\2\0\0", False),
}


def ipv4(options: bytes) -> bytes:
    return ip(SOURCE[4], TARGET[4], UDP, udp(SOURCE[4], 1234, TARGET[4], 9)[20:], options=options)


def with_hop_by_hop(options: bytes, payload_length: int | None = None) -> bytes:
    head = bytes((UDP, (len(options) + 2) // 8 - 1)) + options
    data = ip(SOURCE[6], TARGET[6], HOP_BY_HOP, head + udp(SOURCE[6], 1234, TARGET[6], 9)[40:])
    return data if payload_length is None else data[:4] + payload_length.to_bytes(2, "big") + data[6:]


def reaches_input(data: bytes) -> bool:
    """Return whether a packet, for which there is no service, reaches the input chain of the model."""
    try:
        packet = parse(data, iif=PORT)
    except PacketError:
        return False
    return PacketFilterModel(render(POLICY).commands()).receive(packet, 0).hook == "input"


def reach_input(packets: list[bytes]) -> list[bool]:
    """Return whether each packet reaches the kernel's input chain; to be called in a separate process.

    Two valid packets follow each packet, so that it is known when the kernel has processed it.
    """
    enter_namespace()
    world = BoxNamespace(POLICY, render(POLICY).commands())
    results = []
    for data in packets:
        before = world.counters()["at_input"]
        world.inject(PORT, data)
        world.inject(PORT, ipv4(b""))
        world.inject(PORT, ipv4(b""))
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while (arrived := world.counters()["at_input"] - before) < 2:
            assert time.monotonic() < deadline
        results.append(arrived == 3)
    return results


def by_the_kernel(packets: list[bytes]) -> list[bool]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(reach_input, packets).result()


def test_kernel_and_model_agree_on_named_cases() -> None:
    expected = {
        name: holds for name, (_, holds) in (IPV4 | {f"hop: {n}": case for n, case in HOP.items()}).items()
    }
    packets = [ipv4(options) for options, _ in IPV4.values()]
    packets += [with_hop_by_hop(options) for options, _ in HOP.values()]
    assert dict(zip(expected, map(reaches_input, packets), strict=True)) == expected
    assert dict(zip(expected, by_the_kernel(packets), strict=True)) == expected


def test_a_zero_payload_length_is_accepted_only_without_a_jumbo_option() -> None:
    packets = [with_hop_by_hop(b"\1\4\0\0\0\0", 0), with_hop_by_hop(b"\xc2\4\0\1\0\0", 0)]
    assert [reaches_input(data) for data in packets] == by_the_kernel(packets) == [True, False]


def test_kernel_and_model_agree_on_random_options() -> None:
    generator = PacketGenerator(POLICY, (), (), 3)
    generator.random = Random(3)
    packets = [ipv4(generator.options()) for _ in range(RANDOM_CASES)]
    packets += [with_hop_by_hop(generator.hop_by_hop(UDP)[2:]) for _ in range(RANDOM_CASES)]
    model = [reaches_input(data) for data in packets]
    assert 0.1 < sum(model) / len(model) < 0.9
    kernel = by_the_kernel(packets)
    assert [data.hex() for data, one, other in zip(packets, model, kernel, strict=True) if one != other] == []


def test_a_jumbogram_is_longer_than_any_other_packet() -> None:
    option, payload = b"\xc2\4\0\1\0\0", bytes(65536)
    data = ip(SOURCE[6], TARGET[6], HOP_BY_HOP, b"")[:40] + bytes((UDP, 0)) + option + payload
    assert hop_by_hop_options_are_valid(data)
    assert not hop_by_hop_options_are_valid(data[:-9])
    assert not ipv4_options_are_valid(ipv4(b"\x83\x07\x04\1\2\3\4\0"))
