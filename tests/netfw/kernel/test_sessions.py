"""Sessions in the kernel: opened, closed and expired, and the connections made during them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from netfw.errors import FirewallError, FirewallErrorKind
from netfw.kernel.firewall import Firewall
from netfw.kernel.nft import Nft
from netfw.kernel.sessions import Sessions
from netfw.policy.policy import SESSION_SECONDS_MAX, SESSIONS_MAX, Service
from netfw.policy.policyfile import load_policy
from netfw.ruleset import names
from netfw.ruleset.sessions import THE_BOX, Session
from tests.support.eventually import WAIT_SECONDS_MAX, poll_until
from tests.support.namespaces import namespace
from tests.support.netfw.boxlab import IN_TUNNEL, INSTRUMENT, POLICIES, PORT, STAFF, BoxLab, box_lab

pytestmark = pytest.mark.kernel

DESKTOP = 5900
both_versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def shared() -> Iterator[BoxLab]:
    with box_lab() as lab:
        yield lab


@pytest.fixture
def lab(shared: BoxLab) -> BoxLab:
    shared.firewall.remove()
    shared.apply(load_policy(POLICIES / "clinic.toml"))
    return shared


@pytest.fixture
def bare() -> Iterator[Sessions]:
    with namespace() as here:
        nft = here.run(Nft)
        policy = load_policy(POLICIES / "clinic.toml")
        Firewall(nft).apply(policy)
        yield here.run(lambda: Sessions(nft, policy))
        nft.close()


def session(version: int = 4, staff: str = "") -> Session:
    instrument = ip_address(INSTRUMENT[1][version])
    return Session(ip_address(staff or STAFF[version]), 1, instrument, Service("tcp", DESKTOP))


@contextmanager
def conversation(lab: BoxLab, version: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield an established connection from staff to the instrument's desktop."""
    with (
        closing(lab.listener(lab.instrument[1], INSTRUMENT[1][version], DESKTOP)) as server,
        closing(lab.staff.socket(server.family, socket.SOCK_STREAM)) as client,
    ):
        client.settimeout(WAIT_SECONDS_MAX)
        client.connect((INSTRUMENT[1][version], DESKTOP))
        accepted, _ = server.accept()
        with closing(accepted):
            accepted.settimeout(WAIT_SECONDS_MAX)
            for end in (client, accepted):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.send(b"to the instrument")
            assert accepted.recv(64) == b"to the instrument"
            accepted.send(b"to the staff")
            assert client.recv(64) == b"to the staff"
            yield client, accepted


@both_versions
def test_a_path_is_open_only_during_its_session(lab: BoxLab, version: int) -> None:
    def attempt() -> str:
        return lab.attempt(lab.staff, lab.instrument[1], INSTRUMENT[1][version], DESKTOP)

    assert attempt() == names.TUNNEL
    lab.sessions.open(session(version), 60)
    assert attempt() == "reached"
    lab.box.run(lambda: lab.sessions.close(session(version)))
    assert attempt() == names.TUNNEL


BRIDGE = {
    "staff": Session(ip_address(STAFF[4]), THE_BOX, ip_address(IN_TUNNEL), Service("tcp", DESKTOP)),
    "instrument": Session(ip_address(PORT[1][4]), 1, ip_address(INSTRUMENT[1][4]), Service("tcp", DESKTOP)),
}


@pytest.mark.parametrize("end", ["staff", "instrument"])
def test_a_bridged_path_is_open_only_during_its_session(lab: BoxLab, end: str) -> None:
    refused = {"staff": names.TUNNEL, "instrument": "EHOSTUNREACH"}[end]
    client_host, server_host, address = {
        "staff": (lab.staff, lab.box, IN_TUNNEL),
        "instrument": (lab.box, lab.instrument[1], INSTRUMENT[1][4]),
    }[end]

    def attempt(port: int = DESKTOP) -> str:
        return lab.attempt(client_host, server_host, address, port)

    assert attempt() == refused
    other = BRIDGE["instrument" if end == "staff" else "staff"]
    lab.sessions.open(other, 60)
    assert attempt() == refused
    lab.sessions.open(BRIDGE[end], 60)
    assert attempt() == "reached"
    assert attempt(DESKTOP + 1) == refused
    assert {entry.session for entry in lab.sessions.list()} == set(BRIDGE.values())
    lab.box.run(lambda: lab.sessions.close(BRIDGE[end]))
    assert attempt() == refused
    assert [entry.session for entry in lab.sessions.list()] == [other]


def test_a_bridge_opens_no_path_between_staff_and_instrument(lab: BoxLab) -> None:
    for path in BRIDGE.values():
        lab.sessions.open(path, 60)
    one, two = lab.instrument[1], lab.instrument[2]
    assert lab.attempt(lab.staff, one, INSTRUMENT[1][4], DESKTOP) == names.TUNNEL
    assert lab.attempt(lab.staff, lab.box, PORT[1][4], DESKTOP) == names.TUNNEL
    assert lab.attempt(one, lab.box, PORT[1][4], DESKTOP) == names.INSTRUMENT
    assert lab.attempt(one, lab.box, IN_TUNNEL, DESKTOP) == names.INSTRUMENT
    assert lab.attempt(lab.box, two, INSTRUMENT[2][4], DESKTOP) == "EHOSTUNREACH"


@pytest.mark.parametrize("end", ["staff", "instrument"])
@pytest.mark.parametrize("expires", [False, True])
def test_the_end_of_a_bridged_path_cuts_its_connection(lab: BoxLab, end: str, expires: bool) -> None:
    client_host, server_host, address = {
        "staff": (lab.staff, lab.box, IN_TUNNEL),
        "instrument": (lab.box, lab.instrument[1], INSTRUMENT[1][4]),
    }[end]
    lab.sessions.open(BRIDGE[end], 1 if expires else 60)
    with (
        closing(lab.listener(server_host, address, DESKTOP)) as server,
        closing(client_host.socket(server.family, socket.SOCK_STREAM)) as client,
    ):
        client.settimeout(WAIT_SECONDS_MAX)
        client.connect((address, DESKTOP))
        accepted, _ = server.accept()
        with closing(accepted):
            for each in (client, accepted):  # reset at close, so that no FIN is repeated during other tests
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if not expires:
                assert lab.box.run(lambda: lab.sessions.close(BRIDGE[end])) == 1
            poll_until(lambda: not lab.sessions.list())
            for sender, receiver in ((client, accepted), (accepted, client)):
                before, sent = lab.refused(), True
                try:
                    sender.send(b"late")
                except PermissionError:
                    sent = False
                assert not sent or lab.causes(before)
                receiver.setblocking(False)
                with pytest.raises(BlockingIOError):
                    receiver.recv(64)


@both_versions
def test_a_session_opens_only_its_own_path(lab: BoxLab, version: int) -> None:
    lab.sessions.open(session(version), 60)
    one, two, staff = lab.instrument[1], lab.instrument[2], lab.staff
    assert lab.attempt(staff, one, INSTRUMENT[1][version], DESKTOP + 1) == names.TUNNEL
    assert lab.attempt(staff, one, INSTRUMENT[1][version], DESKTOP, kind="udp") == names.TUNNEL
    assert lab.attempt(staff, two, INSTRUMENT[2][version], DESKTOP) == names.TUNNEL
    assert lab.attempt(one, staff, STAFF[version], DESKTOP) == names.CROSSING
    assert lab.attempt(one, two, INSTRUMENT[2][version], DESKTOP) == names.CROSSING


@both_versions
def test_closing_a_session_cuts_established_connections(lab: BoxLab, version: int) -> None:
    lab.sessions.open(session(version), 60)
    with conversation(lab, version) as (client, accepted):
        assert lab.box.run(lambda: lab.sessions.close(session(version))) == 1
        assert lab.box.run(lambda: lab.sessions.close(session(version))) == 0
        assert_cut(lab, client, accepted)
        # its conntrack entry was deleted: another session does not restore it
        lab.sessions.open(session(version), 60)
        before = lab.refused()
        client.send(b"again")
        assert names.INVALID in lab.causes(before)


@both_versions
def test_the_kernel_cuts_established_connections_when_a_session_expires(lab: BoxLab, version: int) -> None:
    lab.sessions.open(session(version), 1)
    with conversation(lab, version) as (client, accepted):
        poll_until(lambda: not lab.sessions.list())
        assert_cut(lab, client, accepted)


def assert_cut(lab: BoxLab, client: socket.socket, accepted: socket.socket) -> None:
    """Check that packets in both directions are dropped and counted."""
    before = lab.refused()
    client.send(b"late")
    assert lab.causes(before) & {names.TUNNEL, names.INVALID}
    before = lab.refused()
    accepted.send(b"late")
    assert names.CROSSING in lab.causes(before) or names.INVALID in lab.causes(before)
    for end in (client, accepted):
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(64)


def test_a_session_survives_a_switch_to_another_policy_that_permits_it(lab: BoxLab) -> None:
    lab.sessions.open(session(), 60)
    with conversation(lab, 4) as (client, accepted):
        lab.apply(replace(lab.policy, authorized=(), rejects_outside=True))
        client.send(b"still there")
        assert accepted.recv(64) == b"still there"
        lab.apply(load_policy(POLICIES / "clinic.toml"))
        assert [entry.session for entry in lab.sessions.list()] == [session()]
        without = replace(lab.policy, ports=tuple(replace(port, desktop=()) for port in lab.policy.ports))
        lab.apply(without)
        assert_cut(lab, client, accepted)


def test_a_session_survives_a_change_of_the_table_structure(lab: BoxLab) -> None:
    lab.sessions.open(session(), 60)
    lab.box.command("nft", "add", "set", "inet", "rap", "other", "{ type ipv4_addr; }")
    lab.firewall.apply(lab.policy)
    assert lab.firewall.differences(lab.policy) == []
    (entry,) = lab.sessions.list()
    assert entry.session == session()
    assert 1 <= entry.seconds_left <= 60


def test_opening_a_session_again_restarts_its_time(bare: Sessions) -> None:
    bare.open(session(), 10)
    bare.open(session(), 1000)
    (entry,) = bare.list()
    assert 10 < entry.seconds_left <= 1000


def test_the_number_of_sessions_is_limited(bare: Sessions) -> None:
    for n in range(SESSIONS_MAX):
        bare.open(session(staff=f"10.99.2.{n}"), 60)
    with pytest.raises(FirewallError, match="which is the maximum") as refused:
        bare.open(session(staff="10.99.3.1"), 60)
    assert refused.value.kind is FirewallErrorKind.UNFIT
    bare.open(session(staff="10.99.2.1"), 90)
    assert len(bare.list()) == SESSIONS_MAX


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": 3}, "port 3 is not in use; ports in use: 1, 2"),
        ({"staff": ip_address("10.98.0.1")}, "is not a staff address; staff networks: 10.99.0.0/16"),
        (
            {"instrument": ip_address("10.77.2.5")},
            "cannot be an instrument on port 1; its networks: 10.77.1.0/24",
        ),
        ({"instrument": ip_address("10.77.1.1")}, "cannot be an instrument on port 1"),
        ({"instrument": ip_address("10.77.1.255")}, "cannot be an instrument on port 1"),
        ({"instrument": ip_address("fd00:77:1::5")}, "cannot be an instrument on port 1"),
        ({"port": THE_BOX}, "10.77.1.5 is not the box's own address in the tunnel: 10.98.0.1"),
        ({"staff": ip_address("10.77.2.1")}, "10.77.2.1 is not a staff address"),
        ({"staff": ip_address("10.98.0.1")}, "10.98.0.1 is not a staff address"),
        (
            {"port": THE_BOX, "instrument": ip_address("10.98.0.1"), "staff": ip_address("10.77.1.1")},
            "10.77.1.1 is not a staff address",
        ),
        (
            {"port": THE_BOX, "instrument": ip_address("10.98.0.1"), "desktop": Service("tcp", 443)},
            "tcp/443 is not a desktop service of any port; desktop services: tcp/5900",
        ),
        (
            {"desktop": Service("tcp", 22)},
            "tcp/22 is not a desktop service of port 1; desktop services: tcp/5900",
        ),
    ],
)
def test_a_session_that_the_policy_does_not_define_is_refused(
    bare: Sessions, change: dict[str, object], message: str
) -> None:
    with pytest.raises(FirewallError, match=message) as refused:
        bare.open(replace(session(), **change), 60)  # type: ignore[arg-type]
    assert refused.value.kind is FirewallErrorKind.UNFIT
    assert bare.list() == []


@pytest.mark.parametrize("seconds", [0, -1, SESSION_SECONDS_MAX + 1])
def test_a_session_without_a_valid_duration_is_refused(bare: Sessions, seconds: int) -> None:
    with pytest.raises(FirewallError, match=f"1 to {SESSION_SECONDS_MAX} seconds"):
        bare.open(session(), seconds)
    bare.open(session(), SESSION_SECONDS_MAX)
