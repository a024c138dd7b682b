"""The firewall's log: descriptions of refused packets, and of bytes that are not a packet."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random

import pytest

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.log import FirewallLog, Lost, RefusedPacket
from netfw.model import packet
from netfw.model.headers import Headers, headers
from netfw.ruleset import names
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.namespaces import Namespace, namespace
from tests.support.netfw.boxlab import (
    DATACENTER,
    ELSEWHERE,
    INSTRUMENT,
    PORT,
    STAFF,
    UPLINK,
    BoxLab,
    box_lab,
)

COPIED = names.LOG_BYTES
WORLD = {4: "203.0.113.9", 6: "2001:db8:9::7"}
both_versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def lab() -> Iterator[BoxLab]:
    with box_lab() as running:
        yield running


@pytest.fixture
def here() -> Iterator[Namespace]:
    """A namespace that logs every datagram to port 9."""
    with namespace() as logging:
        logging.command("nft", "-f", "-", input=LOGGING)
        yield logging


LOGGING = f"""table inet logging {{
    chain output {{
        type filter hook output priority 0;
        udp dport 9 log prefix "{names.LOG_PREFIX} {names.EGRESS} " group {names.LOG_GROUP} snaplen {COPIED}
    }}
}}"""


def read(
    host: Namespace, act: Callable[[FirewallLog], None], enough: Callable[[list[RefusedPacket | Lost]], bool]
) -> list[RefusedPacket | Lost]:
    """Call `act` and return the records that are read until `enough(records)`."""

    async def reading() -> list[RefusedPacket | Lost]:
        entries: list[RefusedPacket | Lost] = []
        more = asyncio.Event()

        def on_entry(entry: RefusedPacket | Lost) -> None:
            entries.append(entry)
            more.set()

        log = host.run(lambda: FirewallLog(on_entry))
        log.start()
        try:
            act(log)
            while not enough(entries):
                more.clear()
                await asyncio.wait_for(more.wait(), WAIT_SECONDS_MAX)
        finally:
            log.stop()
        return entries

    return asyncio.run(reading())


def logged(lab: BoxLab, host: Namespace, interface: str, data: bytes) -> RefusedPacket:
    """Send a packet to the box; return its record."""

    def send(_: FirewallLog) -> None:
        kind = b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd"
        with closing(host.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
            wire.bind((interface, 0))
            wire.send(bytes.fromhex("020000000001020000000099") + kind + data)

    *_, entry = read(lab.box, send, lambda entries: any(is_about(entry, data) for entry in entries))
    assert isinstance(entry, RefusedPacket)
    return entry


def is_about(entry: RefusedPacket | Lost, data: bytes) -> bool:
    return isinstance(entry, RefusedPacket) and entry.copied[-16:] == data[:COPIED][-16:]


@pytest.mark.kernel
@both_versions
def test_a_refused_packet_from_outside_is_logged_in_one_line(lab: BoxLab, version: int) -> None:
    source, target = WORLD[version], UPLINK[version]
    before = time.time()
    entry = logged(lab, lab.outside, "wan", packet.tcp(source, 4711, target, 22))
    assert before - 1 < entry.seconds < time.time() + 1
    ends = {4: f"{source}:4711 → {target}:22", 6: f"[{source}]:4711 → [{target}]:22"}[version]
    assert re.fullmatch(r"\d\d:\d\d:\d\d outside    enp1s0  (.*)", str(entry))[1] == f"tcp {ends} SYN"  # type: ignore[index]
    summary = json.loads(json.dumps(entry.summary()))
    assert summary["cause"] == names.OUTSIDE
    assert (summary["interface_in"], summary["interface_out"]) == ("enp1s0", "")
    assert (summary["source"], summary["source_port"]) == (source, 4711)
    assert (summary["destination"], summary["destination_port"]) == (target, 22)


@pytest.mark.kernel
@both_versions
def test_each_cause_is_logged_with_interfaces_and_headers(lab: BoxLab, version: int) -> None:
    one, two, staff = INSTRUMENT[1][version], INSTRUMENT[2][version], STAFF[version]
    for number, name, data, expected in (
        (1, "eth0", packet.udp(two, 5, PORT[1][version], 6), (names.SPOOFED, "enp2s0", "")),
        (1, "eth0", packet.udp(one, 5, PORT[1][version], 6), (names.INSTRUMENT, "enp2s0", "")),
        (1, "eth0", packet.udp(one, 5, two, 6), (names.INSTRUMENT, "enp2s0", "enp3s0")),
        (
            0,
            "wan",
            packet.icmp(WORLD[version], UPLINK[version], {4: 8, 6: 128}[version]),
            (names.OUTSIDE, "enp1s0", ""),
        ),
        (2, "eth0", packet.udp(staff, 5, one, 5900), (names.TUNNEL, "tun-rap", "enp2s0")),
    ):
        host = {0: lab.outside, 1: lab.instrument[1], 2: lab.staff}[number]
        entry = logged(lab, host, name, data)
        assert (entry.cause, entry.interface_in, entry.interface_out) == expected
        assert entry.headers == headers(data)


@pytest.mark.kernel
def test_refused_output_is_logged_with_its_interface(lab: BoxLab) -> None:
    def attempt(_: FirewallLog) -> None:
        lab.attempt(lab.box, lab.outside, ELSEWHERE[4], 443)

    (entry,) = read(lab.box, attempt, bool)
    assert re.search(rf" egress     →enp1s0  tcp {UPLINK[4]}:\d+ → {ELSEWHERE[4]}:443 SYN$", str(entry))


@pytest.mark.kernel
def test_accepted_packets_are_not_logged(lab: BoxLab) -> None:
    def act(_: FirewallLog) -> None:
        assert lab.attempt(lab.box, lab.outside, DATACENTER[4], 443) == "reached"
        lab.attempt(lab.box, lab.outside, ELSEWHERE[4], 80)

    (entry,) = read(lab.box, act, bool)
    assert isinstance(entry, RefusedPacket)
    assert entry.headers is not None
    assert entry.headers.destination_port == 80


@pytest.mark.kernel
def test_messages_lost_by_a_slow_reader_are_counted(here: Namespace) -> None:
    """Each packet that was sent is either reported or counted as lost."""
    sent = 2001

    def flood(log: FirewallLog) -> None:
        log.netlink_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        with closing(here.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
            for _ in range(sent - 1):
                sender.sendto(b"x", ("127.0.0.1", 9))
            log.read_waiting()
            sender.sendto(b"x", ("127.0.0.1", 9))

    def lost(entries: list[RefusedPacket | Lost]) -> int:
        return sum(entry.packets for entry in entries if isinstance(entry, Lost))

    entries = read(here, flood, lambda entries: lost(entries) > 0)
    reported = sum(isinstance(entry, RefusedPacket) for entry in entries)
    assert reported + lost(entries) == sent
    assert lost(entries) > reported


@pytest.mark.kernel
def test_a_second_reader_is_refused(here: Namespace) -> None:
    first = start(here, "--json")
    try:
        ended = subprocess.run(
            here.wrap(*LOG), check=False, capture_output=True, text=True, timeout=WAIT_SECONDS_MAX
        )
        assert ended.returncode == 1
        assert "another program reads the firewall's log (NFLOG group 77)" in ended.stderr
    finally:
        first.terminate()
        assert first.wait(WAIT_SECONDS_MAX) == 0


@pytest.mark.kernel
def test_missing_privileges_are_reported(here: Namespace) -> None:
    weak = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")
    ended = subprocess.run(here.wrap(*weak, *LOG), check=False, capture_output=True, text=True)
    assert ended.returncode == 3
    assert "run it as root" in ended.stderr


@pytest.mark.kernel
def test_the_log_can_be_read_again_after_its_reader_stopped(here: Namespace) -> None:
    for _ in range(2):
        (entry,) = read(here, lambda _: send(here), bool)
        assert isinstance(entry, RefusedPacket)
        assert entry.headers == Headers("127.0.0.1", "127.0.0.1", "udp", entry.headers.source_port, 9)  # type: ignore[union-attr]


@pytest.mark.kernel
@pytest.mark.parametrize("form", ["", "--json"])
def test_the_command_prints_refused_packets(here: Namespace, form: str) -> None:
    reading = start(here, *filter(None, [form]))
    send(here)
    assert reading.stdout is not None
    line = reading.stdout.readline()
    if form:
        assert json.loads(line)["destination_port"] == 9
    else:
        assert re.search(r" egress     →lo  udp 127\.0\.0\.1:\d+ → 127\.0\.0\.1:9$", line)
    reading.terminate()
    assert reading.wait(WAIT_SECONDS_MAX) == 0


@pytest.mark.kernel
def test_the_command_ends_after_its_duration(here: Namespace) -> None:
    assert start(here, "--seconds", "1").wait(WAIT_SECONDS_MAX) == 0


@pytest.mark.kernel
def test_the_command_ends_when_its_output_is_closed(here: Namespace) -> None:
    reading = start(here)
    assert reading.stdout is not None
    reading.stdout.close()
    send(here)
    assert reading.wait(WAIT_SECONDS_MAX) == 0


LOG = (sys.executable, "-m", "rap", "fw", "log")


def start(here: Namespace, *options: str) -> subprocess.Popen[str]:
    """Start the command; return its process when it reads the log."""
    pipe = subprocess.PIPE
    reading = subprocess.Popen(here.wrap(*LOG, *options), stdout=pipe, stderr=pipe, text=True)
    assert reading.stderr is not None
    assert reading.stderr.readline() == "rap: printing refused packets (NFLOG group 77)\n"
    return reading


def send(here: Namespace) -> None:
    with closing(here.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))


LONG = bytes(1000)
TRANSPORT = packet.tcp("192.0.2.1", 1, "192.0.2.2", 2)[20:]


@pytest.mark.parametrize(
    ("data", "summary"),
    [
        (packet.tcp("192.0.2.1", 1, "192.0.2.2", 2, 0x11), "tcp 192.0.2.1:1 → 192.0.2.2:2 ACK FIN"),
        (packet.tcp("192.0.2.1", 1, "192.0.2.2", 2, 0), "tcp 192.0.2.1:1 → 192.0.2.2:2 no flags"),
        (packet.tcp("192.0.2.1", 1, "192.0.2.2", 2, payload=LONG), "tcp 192.0.2.1:1 → 192.0.2.2:2 SYN"),
        (packet.udp("fd00::1", 1, "fd00::2", 2, LONG), "udp [fd00::1]:1 → [fd00::2]:2"),
        (packet.icmp("192.0.2.1", "192.0.2.2", 5, 1), "icmp 192.0.2.1 → 192.0.2.2 type 5 code 1"),
        (packet.icmp("fd00::1", "fd00::2", 136), "icmpv6 fd00::1 → fd00::2 type 136 code 0"),
        (packet.ip("192.0.2.1", "192.0.2.2", 50, LONG), "esp 192.0.2.1 → 192.0.2.2"),
        (packet.ip("192.0.2.1", "192.0.2.2", 89, b""), "protocol 89 192.0.2.1 → 192.0.2.2"),
        (packet.ip("192.0.2.1", "192.0.2.2", 6, TRANSPORT, fragment=7), "tcp 192.0.2.1 → 192.0.2.2"),
        (packet.ip("192.0.2.1", "192.0.2.2", 6, TRANSPORT[:2]), "tcp 192.0.2.1 → 192.0.2.2"),
        (packet.ip("192.0.2.1", "192.0.2.2", 6, TRANSPORT[:8]), "tcp 192.0.2.1:1 → 192.0.2.2:2"),
        (packet.ip("fd00::1", "fd00::2", 0, b"\x06\x03" + bytes(30) + LONG), "tcp fd00::1 → fd00::2"),
        (packet.ip("fd00::1", "fd00::2", 60, b"\x11\x00" + bytes(6) + TRANSPORT), "udp [fd00::1]:1 → [fd00::2]:2"),
        (packet.ip("fd00::1", "fd00::2", 43, b""), "ip fd00::1 → fd00::2"),
    ],
)  # fmt: skip
def test_truncated_headers_are_parsed_as_far_as_possible(data: bytes, summary: str) -> None:
    assert str(headers(data[:COPIED])) == summary


@pytest.mark.parametrize("data", [b"", b"\x45", bytes(64), b"\x60" + bytes(20), b"\x45" + bytes(63)])
def test_bytes_that_are_not_a_packet_are_shown_in_hexadecimal(data: bytes) -> None:
    entry = RefusedPacket(0.0, names.OUTSIDE, "enp1s0", "", headers(data), data)
    assert entry.headers is None
    assert str(entry).endswith(f" outside    enp1s0  {data.hex()}")
    assert entry.summary()["copied"] == data.hex()


def test_any_bytes_can_be_described() -> None:
    """Truncated packets with changed bytes, and random bytes."""
    random = Random(5)
    real = [
        packet.tcp("192.0.2.1", 1, "192.0.2.2", 2, payload=LONG),
        packet.ip("fd00::1", "fd00::2", 0, bytes((43, 0)) + bytes(6) + bytes((44, 1)) + LONG),
        packet.icmp("fd00::1", "fd00::2", 1),
    ]
    read_as_packets = 0
    for _ in range(5_000):
        data = bytearray(random.choice(real)[: random.randrange(COPIED + 1)])
        for _ in range(random.randrange(4)):
            if data:
                data[random.randrange(len(data))] = random.randrange(256)
        read_as_packets += headers(bytes(data)) is not None
        headers(random.randbytes(random.randrange(COPIED)))
    assert read_as_packets > 500


def test_a_kernel_without_packet_logging_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from netfw.kernel import netlink

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(netlink, "acknowledged", refuse)
    with pytest.raises(FirewallError, match="nfnetlink_log") as error:
        FirewallLog(print).start()
    assert error.value.kind is FirewallErrorKind.LACKING
