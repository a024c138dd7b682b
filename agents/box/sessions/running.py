"""The sessions of a box program: their log, the connection for their messages, and their end with the program."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.x509.oid import NameOID

from agents.box.audit.log_reader import LogFolder
from agents.box.configuration.config import BoxConfig, InstrumentPort, PortInstrument, SessionSettings
from agents.box.sessions.desktop import DesktopNetwork, Shared, SharedDesktop, SharedScreen
from agents.box.sessions.exchange import SessionMessageExchange
from agents.box.sessions.security_keys import SecurityKeys
from agents.box.sessions.sessions import BoxSessions
from agents.box.sessions.stream import SharedStream
from agents.box.sessions.surroundings import BoxSurroundings, SessionPath
from agents.box.tunnel.tunnel import SessionKey, Tunnel
from agents.enrolment.certificate_files import BoxCertificates
from hal.clock import WallClock
from netfw.policy.policy import Service
from netfw.ruleset.sessions import THE_BOX, Session
from settings.profile import Profile
from wire.http.connection import ClientConnection
from wire.pki.signature import load_private_key, load_public_keys
from wire.session.audit import AuditFileError, AuditOwner
from wire.session.cose import key_set
from wire.session.grant import Offer, PresenceWay, SessionMode, SessionService
from wire.session.log import SessionLog
from wire.session.messages import FromBox, HeadMessage, ToBox
from wire.session.recorder import SessionRecorder
from wire.session.table import Actor, End, Event

LOG_RETRY_SECONDS: Final = 60.0
"""Pause after the log could not be opened. Meanwhile the box refuses every offer."""
END_SECONDS_MAX: Final = 3.0
"""Time for ending tunnels when the program stops. Packets stop immediately."""
NOTIFY_SECONDS_MAX: Final = 1.0
"""Time for notifying the data center when the program stops."""
LINE_SHARE: Final = 0.84
"""Share of the uplink's rate for the data of a desktop; the headers of TCP and the tunnel need the rest."""


def _not_published(_identity: BoxCertificates) -> None:
    """Do nothing: there is no server of the local page."""


@dataclass(frozen=True, slots=True)
class SessionHardware:
    """The hardware that the sessions of a box use, real or emulated."""

    path: SessionPath | None
    """None: through the firewall service of `agents.box.hardware.Hardware`."""
    make_tunnel: Callable[[], Tunnel]
    open_log: Callable[[AuditOwner], SessionLog]
    """Opens the audit file, on the thread of the disk. Raises: OSError, AuditFileError."""
    desktop: DesktopNetwork
    log_folder: LogFolder | None = None
    """The folder with the audit file, for its lines in the chain of audit records; None: they are not sent."""
    load_key: Callable[[Path], EllipticCurvePrivateKey] = load_private_key
    """Loads the box's own key for signatures. Raises: OSError, SignatureError."""
    make_key: Callable[[], SessionKey] = SessionKey
    """Makes the key of a session."""
    publish: Callable[[BoxCertificates], object] = _not_published
    """Gives the box's certificate to the server of the local page."""


@dataclass(frozen=True, slots=True)
class SessionInstrument:
    """An instrument whose sessions the box can permit: its port, its settings and its profile."""

    port: InstrumentPort
    settings: PortInstrument
    profile: Profile

    def paths(self, offer: Offer, sessions: SessionSettings) -> tuple[Session, ...]:
        """Return the paths of a session through the firewall, the one to the data center first.

        They are closed in this order.
        """
        instrument, desktop = IPv4Address(self.settings.address), Service("tcp", offer.tcp_port)
        own = self.port.address()
        assert own is not None, "`check_box` requires the address that the firewall's policy has"
        return (
            Session(sessions.staff_address, THE_BOX, sessions.box_address, desktop),
            Session(own, self.port.number, instrument, desktop),
        )

    def permits(self, offer: Offer) -> bool:
        """Return whether an offer is for this instrument's port and its desktop service."""
        profile = self.profile
        return (
            bool(self.settings.address)
            and offer.port == self.port.number
            and offer.tcp_port == profile.desktop_port
            and offer.service == SessionService(profile.desktop_service)
        )


def session_instruments(config: BoxConfig, profiles: Mapping[str, Profile]) -> dict[str, SessionInstrument]:
    """Return the instruments by serial number; `profiles` has the profile of each."""
    return {
        instrument.serial: SessionInstrument(port, instrument, profiles[instrument.serial])
        for port in config.port
        for instrument in port.instrument
    }


class RunningSessions:
    """The sessions of a box while its program runs."""

    def __init__(
        self,
        identity: BoxCertificates,
        settings: SessionSettings,
        hardware: SessionHardware,
        path: SessionPath,
        instruments: dict[str, SessionInstrument],
        *,
        dial: Callable[[], Awaitable[ClientConnection]],
        clock: WallClock,
        random: Random,
        executor: Executor | None,
        log_unusable: Callable[[str], object],
        listeners: list[Callable[[], object]],
    ) -> None:
        """`identity` has the files of the box's certificate; `dial` connects to the data center.

        `dial` raises OSError or ProxyError; `executor` runs disk operations; `instruments` is changed by
        `use_profile`.

        `log_unusable` is called with the reason when the log cannot be opened, and each of `listeners` whenever
        anything that a page shows has changed.

        Raises: OSError, SignatureError, ValueError for keys and certificates that cannot be used.
        """
        self._settings, self._hardware, self._instruments = settings, hardware, instruments
        self._path = path
        self._clock, self._random, self._executor = clock, random, executor
        self._log_unusable = log_unusable
        self._serial = serial_of(identity.certificate)
        hardware.publish(identity)
        self._key = self._next_key = hardware.load_key(settings.key or identity.key)
        self._dial = dial
        self._recorder: SessionRecorder | None = None
        self._datacenter = key_set(*load_public_keys(settings.keys))
        self._exchange = SessionMessageExchange(self._connect, self._receive, self._is_live, random)
        self._listeners = listeners
        self._has_changed = asyncio.Event()
        self.sessions: BoxSessions | None = None
        """None until the log is open; no offer is accepted before."""

    def wake(self) -> None:
        """Fetch the messages that wait at the data center."""
        self._exchange.wake()

    def use(self, identity: BoxCertificates) -> None:
        """Use another certificate: for the page, and its key for signatures from the next connection on.

        The data center knows the key from the certificate of that connection. A separate key for sessions stays in
        use. Raises: OSError, SignatureError.
        """
        self._hardware.publish(identity)
        if self._settings.key is None:
            self._next_key = self._hardware.load_key(identity.key)

    def use_profile(self, serial: str, profile: Profile) -> None:
        """Use another profile of an instrument from its next session on."""
        self._instruments[serial] = replace(self._instruments[serial], profile=profile)

    async def _connect(self) -> ClientConnection:
        connection = await self._dial()
        self._key = self._next_key
        if self._recorder is not None:
            self._recorder.use_key(self._key)
        return connection

    def _key_in_use(self) -> EllipticCurvePrivateKey:
        return self._key

    def fence_lost(self) -> None:
        """End the sessions that have a tunnel, because the firewall may have closed their paths."""
        if self.sessions is not None:
            self.sessions.end_soon(Event.FENCE_LOST, Actor.BOX)

    async def run(self) -> None:
        """Permit sessions until cancelled. On return, no session is live."""
        log = await self._open_log()
        try:
            sessions = self._assemble(log)
            for unended in log.unended:
                await sessions.end_unended(unended)
            self.sessions = sessions
            self._changed()
            async with asyncio.TaskGroup() as tasks:
                exchange = tasks.create_task(self._exchange.run())
                try:
                    await asyncio.Event().wait()
                finally:
                    await self._end(sessions)
                    exchange.cancel()
        finally:
            self.sessions = None
            log.close()

    async def _end(self, sessions: BoxSessions) -> None:
        """End all sessions, because the program stops; notify the data center if it is reachable at once."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS_MAX):
                await sessions.end_all(Event.RESTARTED, Actor.BOX)
                while sessions.is_live:
                    self._has_changed.clear()
                    await self._has_changed.wait()
                if self._recorder is not None:
                    await self._recorder.idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(NOTIFY_SECONDS_MAX):
                await self._exchange.emptied()

    async def _open_log(self) -> SessionLog:
        loop, owner = asyncio.get_running_loop(), AuditOwner(End.BOX, self._serial)
        while True:
            try:
                return await loop.run_in_executor(self._executor, self._hardware.open_log, owner)
            except (OSError, AuditFileError) as error:
                self._log_unusable(str(error))
            await asyncio.sleep(LOG_RETRY_SECONDS)

    def _assemble(self, log: SessionLog) -> BoxSessions:
        hardware = self._hardware
        recorder = self._recorder = SessionRecorder(
            log,
            self._key,
            f"{self._random.getrandbits(64):016x}",
            self._clock.now_ns,
            _monotonic_ns,
            lambda session, head: self._send(HeadMessage(session, head)),
            self._executor,
        )
        return BoxSessions(
            BoxSurroundings(
                serial=self._serial,
                key=self._key_in_use,
                datacenter=self._datacenter,
                endpoint=self._settings.tunnel_endpoint,
                ways=tuple(PresenceWay(way.replace("-", " ")) for way in self._settings.ways),
                wall_ns=self._clock.now_ns,
                monotonic_ns=_monotonic_ns,
                audit=recorder,
                path=self._path,
                make_tunnel=hardware.make_tunnel,
                make_key=hardware.make_key,
                send=self._send,
                permits=self._permits,
                changed=self._changed,
                share=self._share,
            )
        )

    async def _receive(self, message: ToBox) -> None:
        assert self.sessions is not None, "the exchange runs while `sessions` is set"
        await self.sessions.receive(message)

    def _is_live(self) -> bool:
        return self.sessions is not None and self.sessions.is_live

    def _send(self, message: FromBox) -> None:
        self._exchange.send(message)

    def _permits(self, offer: Offer) -> bool:
        instrument = self._instruments.get(offer.instrument)
        return instrument is not None and instrument.permits(offer)

    def _share(self, offer: Offer, ended: Callable[[str], object]) -> Shared:
        instrument = self._instruments[offer.instrument]
        settings, profile = instrument.settings, instrument.profile
        rate, network = self._settings.line_kbit_s * 1000 / 8 * LINE_SHARE, self._hardware.desktop
        if offer.service is SessionService.TCP:
            return SharedStream(
                settings.address, offer.tcp_port, rate, network, partial(self._refused, offer)
            )
        shared = SharedScreen(
            settings.address,
            offer.tcp_port,
            offer.mode is SessionMode.CONTROL,
            rate,
            profile.desktop,
            settings.desktop_password.encode(),
        )
        return SharedDesktop(shared, network, ended)

    def _refused(self, offer: Offer, reason: str) -> None:
        if self._recorder is not None:
            self._recorder.refused(offer.id, reason)

    def _changed(self) -> None:
        self._has_changed.set()
        for changed in list(self._listeners):
            changed()


def _monotonic_ns() -> int:
    return int(asyncio.get_running_loop().time() * 1e9)


def serial_of(certificate: Path) -> str:
    """Return the serial number of the box, which is the name in its certificate. Raises: OSError, ValueError."""
    parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1:
        raise ValueError(f"{certificate}: has {len(names)} common names; it must have one, the serial number")
    return str(names[0].value)


def security_keys(settings: SessionSettings) -> SecurityKeys | None:
    """Return the site's security keys; None without a name for the page. Raises: ValueError for an unusable key."""
    if settings.page_name is None:
        return None
    return SecurityKeys(
        settings.page_name, {key.id: b64decode(key.public_key) for key in settings.security_key}
    )
