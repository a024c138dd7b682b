"""Attempts to get a tunnel, or a packet to an instrument, without a person's consent: `python -m
bench.sessions.attacks [--json]`.

The box program, OpenVPN at both ends, nftables and a desktop run in network namespaces. Each kind of attack is tried
many times with means that its attacker could have: the network, all data of ended sessions, the keys of another data
center or box, other programs on the box, or staff who operate the desktop of the instrument. Afterwards no session is
authorized or open, the box's OpenVPN does not run, and no packet has passed the tunnel's device or has reached the
instrument's desktop. Needs root.
"""

from __future__ import annotations

import base64
import fcntl
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Final

from agents.box.tunnel.openvpn import OpenVpnTunnel
from agents.box.tunnel.tunnel import Credentials, SessionKey, TunnelError
from bench.figures import Figure, figure, run
from datacenter.sessions.session import DeskSession
from settings.types import Endpoint
from tests.support.agents.sessions.center import BOX_SERIAL
from tests.support.agents.sessions.lab import (
    BOX_UPLINK,
    CENTER,
    DESKTOP_PORT,
    DEVICE,
    INSTRUMENT,
    TUNNEL_PORT,
    SessionLab,
    session_lab,
)
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import eventually, poll_until
from tests.support.wire.grants import BOX, DATACENTER, SESSION, STRANGER
from wire.session.cose import countersign
from wire.session.grant import PresenceEvidence, PresenceWay, countersign_offer, sign_offer
from wire.session.messages import OfferMessage
from wire.session.presence import TRIES
from wire.session.table import SessionState

SEED: Final = 1
_WITHOUT_CONSENT: Final = (SessionState.OFFERED, SessionState.ENDED)
_EVIDENCE: Final = (PresenceEvidence(PresenceWay.CODE, "port 1", 1_800_000_000),)
_RESET: Final = b"\x50" + bytes(24)
"""The head of a first packet of OpenVPN with a tls-crypt-v2 key; the content does not matter to the door."""
_TLS_CRYPT_KEY_BYTES: Final = 256
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
_COUNTER: Final = f"""\
table inet watch {{
    counter desktop {{ }}
    chain in {{
        type filter hook prerouting priority -400
        tcp dport {DESKTOP_PORT} counter name desktop
    }}
}}
"""


class Attacks:
    """A lab with one session that has ended, one that is offered, and the attacker's means."""

    def __init__(self, lab: SessionLab) -> None:
        self.lab, self.random = lab, Random(SEED)
        ended = lab.request()
        lab.person.enter_code(ended.id, ended.code)
        lab.reached(ended, SessionState.OPEN)
        lab.person.end(ended.id)
        lab.reached(ended, SessionState.ENDED)
        self.ended, self.issued = ended, lab.endpoints[-1].issued
        assert ended.grant is not None
        self.old_grant = ended.grant.message
        body = "".join(line for line in self.issued.tls_crypt.splitlines() if not line.startswith("-"))
        self.wrapped_key = base64.b64decode(body)[_TLS_CRYPT_KEY_BYTES:]
        poll_until(lambda: not self._has_openvpn())
        lab.instrument.command("nft", "-f", "-", input=_COUNTER)
        self.offered = lab.request()
        self.packets = lab.device_packets()
        self.guesses = 0
        self.injected = 0
        """Packets that an attack itself has put into the device, from within the box."""

    def results(self) -> list[str]:
        """Return the effects of the attacks; none is expected."""
        sessions = self.lab.center.desk.sessions
        effects = {
            "consent": any(session.grant is not None for session in sessions if session is not self.ended),
            "a session": any(session.state not in _WITHOUT_CONSENT for session in sessions),
            "a tunnel": self._has_openvpn(),
            "packets of the tunnel": self.lab.device_packets() - self.packets != self.injected,
            "packets at the desktop": self.reached_the_desktop() != 0,
        }
        return [name for name, occurred in effects.items() if occurred]

    def reached_the_desktop(self) -> int:
        """Return the number of packets that have arrived at the instrument for its desktop."""
        command = ("nft", "list", "counter", "inet", "watch", "desktop")
        listing = self.lab.instrument.command(*command, capture_output=True).stdout
        return int(listing.split("packets")[1].split()[0])

    def fresh(self) -> DeskSession:
        """Return a session that is offered; one that has ended is replaced."""
        if self.offered.is_over:
            self.offered = self.lab.request()
        return self.offered

    def _has_openvpn(self) -> bool:
        try:
            self.lab.openvpn_of_box()
        except AssertionError:
            return False
        return True

    # the tunnel's port at the data center

    def begin_connection(self, first: bytes) -> None:
        """Connect to the tunnel's port and begin with these bytes."""
        with self.lab.box.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            client.connect((CENTER, TUNNEL_PORT))
            client.sendall(len(first).to_bytes(2, "big") + first)
            client.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):
                assert client.recv(1) == b"", "the door has answered"

    def random_bytes(self) -> None:
        """A connection with random bytes."""
        self.begin_connection(self.random.randbytes(self.random.randint(1, 1400)))

    def random_key(self) -> None:
        """A first packet of OpenVPN with a key of the correct length that was not issued."""
        self.begin_connection(_RESET + self.random.randbytes(len(self.wrapped_key)))

    def old_key(self) -> None:
        """The key of a session that has ended."""
        self.begin_connection(_RESET + self.wrapped_key)

    def changed_key(self) -> None:
        """The key of a session that has ended, with a changed bit."""
        self.begin_connection(_RESET + self.with_changed_bit(self.wrapped_key))

    def openvpn_with_old_credentials(self) -> None:
        """OpenVPN itself with all credentials of the session that has ended, and a key of the attacker."""

        async def attempt() -> None:
            with tempfile.TemporaryDirectory() as folder:
                tunnel = OpenVpnTunnel("tun-attack", Path(folder))
                credentials = Credentials(self.ended.id.hex(), *self.issued)
                try:
                    await tunnel.open(Endpoint(CENTER, TUNNEL_PORT), credentials, SessionKey())
                except TunnelError:
                    return
                raise AssertionError("a tunnel was opened")

        self.lab.thread.call(attempt())

    # the box's page

    def wrong_code(self) -> None:
        """A guess of the code; an offer ends after five of them."""
        session = self.fresh()
        code = f"{(int(session.code) + self.random.randint(1, 999_999)) % 1_000_000:06}"
        self.lab.person.enter_code(session.id, code)
        self.guesses += 1
        if self.guesses % TRIES == 0:
            self.lab.reached(session, SessionState.ENDED)

    def form_without_token(self) -> None:
        """The correct code in a form that the page has not made, as a page of another origin would send it."""
        session = self.fresh()
        body = f"token={self.random.randbytes(32).hex()}&code={session.code}"
        assert self.lab.person.post(f"/session/{session.id.hex()}/code", body) >= 400

    def other_port(self) -> None:
        """The correct code from another instrument port."""
        session = self.fresh()
        status = self.lab.person.post(f"/session/{session.id.hex()}/code", f"code={session.code}", 2)
        assert status >= 400

    def code_of_an_ended_session(self) -> None:
        """The code of a session that has ended."""
        status = self.lab.person.post(f"/session/{self.ended.id.hex()}/code", f"code={self.ended.code}")
        assert status >= 400

    # grants at the data center

    def give(self, grant: bytes) -> None:
        """Send a grant for the offered session, as the box."""
        self.lab.thread.call(self.fresh().granted(grant))

    def grant_with_changed_bit(self) -> None:
        """The grant of the person's consent with a changed bit."""
        signed = self.fresh().signed
        self.give(self.with_changed_bit(countersign_offer(signed, _EVIDENCE, SESSION.public_key(), BOX)))

    def grant_by_another_box(self) -> None:
        """A grant with the key of another box."""
        self.give(countersign_offer(self.fresh().signed, _EVIDENCE, SESSION.public_key(), STRANGER))

    def old_grant_again(self) -> None:
        """The grant of a session that has ended."""
        self.give(self.old_grant)

    def grant_without_evidence(self) -> None:
        """An offer that the box has countersigned without the consent of a person."""
        self.give(countersign(self.fresh().signed.message, {}, BOX))

    def offer_as_grant(self) -> None:
        """The offer itself, without the box's signature."""
        self.give(self.fresh().signed.message)

    # messages to the box

    def offer_of_another_data_center(self) -> None:
        """An offer with a foreign key."""
        offer = replace(self.ended.offer, id=self.random.randbytes(16))
        self.send_offer(sign_offer(offer, STRANGER))

    def offer_with_changed_bit(self) -> None:
        """An offer with a changed bit."""
        offer = replace(self.ended.offer, id=self.random.randbytes(16))
        self.send_offer(self.with_changed_bit(sign_offer(offer, DATACENTER)))

    def offer_again(self) -> None:
        """The offer of a session that has ended."""
        self.send_offer(self.ended.signed.message)

    def unasked_certificate(self) -> None:
        """Valid credentials for a session that was not permitted."""
        message = self.issued.message(self.fresh().id)
        self._deliver(lambda: self.lab.center.outbox.send(BOX_SERIAL, message))

    def send_offer(self, message: bytes) -> None:
        """Send an offer to the box."""
        self._deliver(lambda: self.lab.center.outbox.send(BOX_SERIAL, OfferMessage(message)))

    def _deliver(self, send: Callable[[], None]) -> None:
        async def sent() -> None:
            send()
            await eventually(lambda: not self.lab.center.outbox.has(BOX_SERIAL))

        self.lab.thread.call(sent())

    # packets

    def packet_from_the_uplink(self) -> None:
        """A connection to the desktop from the network of the uplink."""
        _connect(self.lab.center_network.socket(socket.AF_INET, socket.SOCK_STREAM))

    def packet_of_a_program(self) -> None:
        """A connection to the desktop by a program on the box."""
        _connect(self.lab.box.socket(socket.AF_INET, socket.SOCK_STREAM))

    def packet_in_the_device(self) -> None:
        """A packet that a program on the box writes to the tunnel's device, with the address of staff."""

        def write() -> None:
            device = os.open("/dev/net/tun", os.O_RDWR)
            try:
                fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN_NO_PI))
                os.write(device, _syn("10.99.0.2", INSTRUMENT, self.random.randint(1024, 65535)))
            finally:
                os.close(device)

        self.lab.box.run(write)
        self.injected = self.lab.device_packets() - self.packets

    def with_changed_bit(self, data: bytes) -> bytes:
        """Return the data with one bit flipped."""
        bit = self.random.randrange(8 * len(data))
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        return bytes(changed)


TRIED: Final[dict[Callable[[Attacks], None], int]] = {
    Attacks.random_bytes: 1000,
    Attacks.random_key: 1000,
    Attacks.old_key: 1000,
    Attacks.changed_key: 1000,
    Attacks.openvpn_with_old_credentials: 20,
    Attacks.wrong_code: 500,
    Attacks.form_without_token: 1000,
    Attacks.other_port: 1000,
    Attacks.code_of_an_ended_session: 500,
    Attacks.grant_with_changed_bit: 1000,
    Attacks.grant_by_another_box: 500,
    Attacks.old_grant_again: 500,
    Attacks.grant_without_evidence: 300,
    Attacks.offer_as_grant: 300,
    Attacks.offer_of_another_data_center: 300,
    Attacks.offer_with_changed_bit: 300,
    Attacks.offer_again: 100,
    Attacks.unasked_certificate: 300,
    Attacks.packet_from_the_uplink: 300,
    Attacks.packet_of_a_program: 300,
    Attacks.packet_in_the_device: 300,
}
SHARED_TRIES: Final = 1000


def figures() -> list[Figure]:
    """Try all attacks."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "pki"
        keys.mkdir()
        with session_lab(Path(folder), Hierarchy.make(keys)) as lab:
            lab.center_network.ip(f"route add 10.77.1.0/24 via {BOX_UPLINK}")
            lab.center_network.ip("tuntap add dev tun-attack mode tun user root", "link set tun-attack up")
            attacks = Attacks(lab)
            return _tried(attacks) + _while_shared(attacks)


def _tried(attacks: Attacks) -> list[Figure]:
    succeeded = 0
    for attack, times in TRIED.items():
        for _ in range(times):
            attack(attacks)
        if results := attacks.results():
            succeeded += 1
            print(f"{attack.__doc__} It has caused {', '.join(results)}.", file=sys.stderr)
    return [
        figure("kinds of attack", "", len(TRIED), ">= 12"),
        figure("tries", "", sum(TRIED.values()), ">= 10000"),
        figure("kinds that led to consent, a tunnel or a packet", "", succeeded, "<= 0"),
    ]


def _while_shared(attacks: Attacks) -> list[Figure]:
    """Open a session with the correct code, and attack while its desktop is shared.

    Staff, who operate the desktop of the instrument, send the form of another offer with the correct code; its page
    was opened before.
    """
    lab = attacks.lab
    session, another = attacks.fresh(), lab.request()
    permit, attack = (lab.person.code_form(offered.id, offered.code) for offered in (session, another))
    permit()
    lab.reached(session, SessionState.OPEN)
    lab.connect(session)
    accepted = 0
    for _ in range(SHARED_TRIES):
        attack()
        accepted += another.grant is not None
    return [
        figure("the right code opens a session", "", int(attacks.reached_the_desktop() > 0), ">= 1"),
        figure(f"authorizations out of a shared desktop, of {SHARED_TRIES:,}", "", accepted, "<= 0"),
    ]


def _connect(client: socket.socket) -> None:
    with client:
        client.setblocking(False)
        client.connect_ex((INSTRUMENT, DESKTOP_PORT))


def _syn(source: str, target: str, port: int) -> bytes:
    """Return an IPv4 packet that begins a TCP connection to the desktop."""
    from scapy.layers.inet import IP, TCP  # slow to import

    return bytes(IP(src=source, dst=target) / TCP(sport=port, dport=DESKTOP_PORT, flags="S"))


if __name__ == "__main__":
    run(figures, __doc__)
