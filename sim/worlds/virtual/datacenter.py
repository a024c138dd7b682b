"""The data center in the virtual world: the real store and ingest program, with faults."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from random import Random
from typing import Final

from datacenter.audit.siem import SiemForwarder
from datacenter.commands.files import FileArchive
from datacenter.commands.ranges import FileRanges
from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.enrolment.registration import RegistrationAuthority
from datacenter.enrolment.service import EnrolmentService, guarded
from datacenter.evaluation.evaluator import Evaluator
from datacenter.evaluation.follower import Follower
from datacenter.evaluation.silence import SilenceWatch
from datacenter.evaluation.triggerset import TriggerSet
from datacenter.ingest import PATH, make_ingest
from datacenter.releases.folder import ReleaseFolder
from datacenter.releases.plan import RolloutPlan
from datacenter.releases.service import ReleaseService
from datacenter.store.queue import StoreQueue
from datacenter.store.store import Store
from datacenter.vendor_ca.authority import VendorAuthority
from settings.profile import Verb
from sim.engine.layers import End, Layers
from sim.faults.world import Certificate
from sim.net.host import Incarnation, Network, SimHost
from sim.net.loop import SimLoop
from sim.units import SECOND_NS
from sim.updates.releases import LabReleases
from sim.worlds.shared.site.addresses import (
    DATACENTER,
    DATACENTER_MOVED,
    DATACENTER_NAME,
    DATACENTER_PORT,
    DATACENTER_TUNNEL,
    SIEM,
    SIEM_NAME,
    SIEM_PORT,
)
from sim.worlds.shared.site.session_keys import SessionKeys
from sim.worlds.shared.staff.commands import queue_command
from sim.worlds.shared.staff.enrolment import approve_waiting, follow_denial
from sim.worlds.shared.staff.rollouts import begin_rollout
from sim.worlds.virtual.sessions import SessionTroubles, VirtualSessionDesk
from wire.compression import CompressionError, Decompressor, UnknownStreamError
from wire.http.connection import Handler, Request, Response, Server, serve
from wire.messages import BATCH_BODY_BYTES_MAX, BATCH_BYTES_MAX, BatchReply, decode
from wire.tls.context import Identity, client_context, server_context

_SECOND_STREAM: Final = "plain"
_MESSAGE: Final = re.compile(rb"(\d+) <\d+>1 ")
_IDENTITY: Final = re.compile(rb'\[rap@32473 id="([^"]+)"')
START_SECONDS: Final = 2.0
"""The start-up time of the program."""


class _SiemConnection(asyncio.Protocol):
    """Records the IDs of the messages of a connection (RFC 5425, 4.3: octet counting)."""

    def __init__(self, received: list[str]) -> None:
        self._received, self._buffer = received, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while header := _MESSAGE.match(self._buffer):
            start = header.end(1) + 1
            end = start + int(header[1])
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[start:end], self._buffer[end:]
            identity = _IDENTITY.search(message)
            assert identity, "each message of the data center has an ID"
            self._received.append(identity[1].decode())


class VirtualSiem:
    """The SIEM (RFC 5425) on a separate host. Received messages survive a power cut."""

    def __init__(self, loop: SimLoop, network: Network, identity: Identity) -> None:
        self._loop, self._identity = loop, identity
        self.host = SimHost(network, SIEM_NAME, SIEM)
        self.received: list[str] = []
        """The IDs of all messages, in the order of arrival."""
        self._holds = Layers[None](self._follow)

    def start(self) -> None:
        """Switch it on."""
        self.host.power_on().run(self._loop, self._serve())

    def hold_down(self) -> End:
        """Cut its power until every hold has ended."""
        return self._holds.add(None)

    def _follow(self) -> None:
        is_on = self.host.incarnation is not None
        if self._holds and is_on:
            self.host.power_off()
        elif not self._holds and not is_on:
            self.start()

    async def _serve(self) -> None:
        tls = server_context(self._identity)
        await self._loop.create_server(lambda: _SiemConnection(self.received), SIEM_NAME, SIEM_PORT, ssl=tls)


class VirtualDataCenter:
    """A running data center; `identities` are the certificates it can present, "good" among them."""

    def __init__(
        self,
        loop: SimLoop,
        network: Network,
        identities: Mapping[str, Identity],
        now_ns: Callable[[], int],
        random: Callable[[str], Random],
        triggers: TriggerSet | None = None,
        session_keys: SessionKeys | None = None,
        releases: LabReleases | None = None,
        authority: VendorAuthority | None = None,
        siem: tuple[Identity, Identity] | None = None,
    ) -> None:
        """With `triggers`, the data center evaluates stored reports; with `session_keys` it has remote sessions, with
        `releases` it updates boxes, with `authority` it issues their certificates, and with `siem`, the certificates
        of both ends, it forwards audit records.
        """
        self.authority = authority
        self._loop = loop
        self._identities = identities
        self._now_ns = now_ns
        self.host = SimHost(network, DATACENTER_NAME, DATACENTER, DATACENTER_MOVED, DATACENTER_TUNNEL)
        self.host.mtu_probing = True
        # the simulated machine never loses power, so a temporary SQLite database suffices, mostly in memory
        self.store = Store("sqlite:///file:?uri=true", durable=False)
        self.archive = FileArchive(self.store)
        self.siem: VirtualSiem | None = None
        """The SIEM, in a lab that has one."""
        if siem is not None:
            self.siem = VirtualSiem(loop, network, siem[0])
            self._siem_client = siem[1]
        self._forwards: Incarnation | None = None
        """The incarnation of the program whose task forwards audit records to the SIEM."""
        self._server: Server | None = None
        self._triggers = triggers
        self._session_troubles = SessionTroubles()
        self.sessions: VirtualSessionDesk | None = None
        """The remote sessions, in a lab that has some."""
        if session_keys is not None:
            audit_file = session_keys.folder / "datacenter.audit"
            self.sessions = VirtualSessionDesk(
                loop, self.host, session_keys, audit_file, now_ns, random, self._session_troubles
            )
        self._releases = releases
        self._ordered = 1  # the last release that was ordered
        self._has_sessions = False
        """Whether the running program has set up its remote sessions."""
        self._following: asyncio.Task[None] | None = None
        self.presented: Certificate | None = None
        """The certificate that the program uses now; None while it does not run."""
        self._presenting = asyncio.Lock()
        self._certificates = Layers[Certificate]()
        self._holds = Layers[None]()
        self._denials = Layers[None](self._follow_denials)
        self._statuses = Layers[int]()
        self._invalid_responses = Layers[None]()
        self._lost_responses = Layers[None]()
        self._delays_ns = Layers[int]()
        self._enrolled = ""
        self.received: list[bytes] | None = None
        """The requests as received, with decompressed bodies; None: they are not kept."""
        self.stored = 0
        """The number of records stored so far; duplicates are not counted."""

    async def start(self, box: str) -> None:
        """Enrol the box with serial number `box`, and start to listen."""
        self._enrolled = box
        self.store.authorize([box], self._now_ns() // 1_000_000)
        self.host.power_on()
        if self.siem is not None:
            self.siem.start()
        await self._present()

    # -- faults: see `sim.faults.world`

    async def present(self, certificate: Certificate) -> End:
        """Present a certificate of `identities`; the latest of several applies. Open connections are closed."""
        return await self._certificates.add_settled(certificate, self._present)

    async def hold_down(self) -> End:
        """Kill the program, whose connections are reset; it is restarted when every hold has ended."""
        remove = self._holds.add(None)
        self.host.kill()
        self._server = self.presented = None
        self._has_sessions = False

        async def end() -> None:
            remove()
            if not self._holds:
                await asyncio.sleep(START_SECONDS)
                await self._present()

        return end

    def change_address(self) -> None:
        """Move to the other address, under the same name."""
        self.host.change_address()

    def answer_with(self, status: int) -> End:
        """Answer every batch with that HTTP status; the latest of several applies."""
        return self._statuses.add(status)

    def answer_invalidly(self) -> End:
        """Answer every batch with status 200 and an invalid body, unless `answer_with` applies."""
        return self._invalid_responses.add(None)

    def lose_responses(self) -> End:
        """Store each batch, and close the connection without a response."""
        return self._lost_responses.add(None)

    def delay_processing(self, delay_ns: int) -> End:
        """Wait `delay_ns` ns before processing a batch; several delays add up."""
        return self._delays_ns.add(delay_ns)

    def withdraw_approvals(self) -> End:
        """Deny all remote sessions until every such effect has ended."""
        return self._session_troubles.withdrawn.add(None)

    def expire_training(self) -> End:
        """Make the training of all staff invalid until every such effect has ended."""
        return self._session_troubles.untrained.add(None)

    def approve_enrolments(self) -> None:
        """Approve all pending certificate requests."""
        approve_waiting(self.store, self._now_ms())

    def deny_box(self) -> End:
        """Put the box on the deny-list until every such effect has ended."""
        return self._denials.add(None)

    def _follow_denials(self) -> None:
        follow_denial(self.store, self._enrolled, self._now_ms(), is_denied=bool(self._denials))

    def fail_recordings(self) -> End:
        """Make writing recordings of remote sessions fail until every such effect has ended."""
        return self._session_troubles.recording_fails.add(None)

    def fail_session_audit(self) -> End:
        """Make writing audit records of remote sessions fail until every such effect has ended."""
        return self._session_troubles.audit_fails.add(None)

    def kill_tunnels(self) -> None:
        """Kill the tunnel processes of remote sessions."""
        if self.sessions is not None:
            self.sessions.kill_tunnels()

    def hold_siem_down(self) -> End:
        """Cut the power of the SIEM until every such effect has ended."""
        assert self.siem is not None, "a lab with this fault has a SIEM"
        return self.siem.hold_down()

    # -- running it

    async def _present(self) -> None:
        """Listen with the certificate that applies now; if it has changed, open connections are closed."""
        async with self._presenting:
            certificate = self._certificates.newest or "good"
            if self._holds or certificate == self.presented:
                return
            self.presented = certificate
            if self._server is not None:
                await self._server.close()
            incarnation = self.host.incarnation
            assert incarnation is not None
            follower = self._follow(incarnation)
            if self.siem is not None and self._forwards is not incarnation:
                self._forwards = incarnation
                forwarder = SiemForwarder(
                    self.store, None, SIEM_NAME, SIEM_PORT, client_context(self._siem_client)
                )
                incarnation.run(self._loop, forwarder.run())
            starting = incarnation.run(self._loop, self._serve(self._identities[certificate], follower))
            await asyncio.wait([starting])
            # if cancelled, the program was killed meanwhile, and `hold_down` restarts it
            if not starting.cancelled():
                self._server = starting.result()

    def queue_command(self, instrument: str, verb: Verb, content: bytes, expires_after_ns: int | None) -> int:
        """See `sim.faults.world.DataCenterPart`."""
        arguments = instrument, verb, content, self._now_ms(), expires_after_ns
        return queue_command(self.store, self._enrolled, *arguments)

    def order_update(self) -> None:
        """Order the enrolled box to install the next of the releases."""
        self._ordered += 1
        plan = RolloutPlan(release=self._ordered, waves=(100,), observe_hours=0)
        assert self._releases is not None, "a lab with this event has releases"
        begin_rollout(self.store, plan, self._now_ms(), self._releases.kind(self._ordered))

    def withdraw_command(self, command: int) -> None:
        """See `sim.faults.world.DataCenterPart`."""
        self.store.withdraw_command(command, self._now_ms())

    def _now_ms(self) -> int:
        return self._now_ns() // 1_000_000

    def _follow(self, incarnation: Incarnation) -> Follower | None:
        """Start a task that evaluates stored reports, and cancel the one started with an earlier certificate."""
        if self._triggers is None:
            return None
        if self._following is not None:
            self._following.cancel()
        watch = SilenceWatch(self.store, self._triggers)
        follower = Follower(Evaluator(self.store, self._triggers), None, self._now_ms, watch)
        self._following = incarnation.run(self._loop, follower.run())
        return follower

    async def _serve(self, identity: Identity, follower: Follower | None) -> Server:
        files = FileRanges(self.archive, None, self._now_ms)
        stored = follower.stored if follower else lambda _: None
        queue = StoreQueue(None, self.store.ingest_all, stored=stored)
        if self.sessions is not None and not self._has_sessions:
            self._has_sessions = True
            await self.sessions.start()
        releases = None
        if self._releases is not None:
            folder = ReleaseFolder(self._releases.folder)
            releases = ReleaseService(folder, [self._enrolled], self.store, None, self._now_ms)
            self._loop.create_task(releases.run())
        enrolment = None
        if self.authority is not None:
            registration = RegistrationAuthority(self.store, self.authority, self._now_ms)
            enrolment = EnrolmentService(registration, None)
        denied = DeniedBoxes(self.store) if enrolment is not None else None
        ingest = make_ingest(
            self._now_ms,
            queue,
            files=files,
            sessions=self.sessions,
            releases=releases,
            enrolment=enrolment,
            denied=denied,
        )
        if denied is not None:
            self._loop.create_task(denied.follow(None))
            ingest = guarded(ingest, denied, lambda: self._now_ns() / 1e9)
        return await serve(
            self._with_faults(ingest),
            DATACENTER_NAME,
            DATACENTER_PORT,
            tls=server_context(identity, checks_dates=self.authority is None),
            body_bytes_max=BATCH_BODY_BYTES_MAX,
            now=lambda: self._now_ns() / 1e9,
        )

    def _with_faults(self, ingest: Handler) -> Handler:
        async def handler(request: Request) -> Response:
            if self.received is not None:
                self.received.append(_plain(request))
            if self._delays_ns:
                await asyncio.sleep(sum(self._delays_ns) / SECOND_NS)
            if self._statuses:
                return Response(self._statuses.newest or 0, b"a simulated failure", close=True)
            if self._invalid_responses:
                return Response(HTTPStatus.OK, b"\x93this is no reply", close=True)
            response = await ingest(request)
            if response.status == HTTPStatus.OK and request.target == PATH:
                self.stored += decode(BatchReply, response.body).stored
            if self._lost_responses:
                request.peer.hang_up()
            return response

        return handler


def _plain(request: Request) -> bytes:
    """Return a request with its body decompressed by a second decompressor of its connection."""
    stream: Decompressor = request.peer.state.setdefault(_SECOND_STREAM, Decompressor())
    try:
        body = stream.decompress(request.body, BATCH_BYTES_MAX) if request.body else b""
    except (UnknownStreamError, CompressionError):
        body = request.body
    return f"{request.method} {request.target} {request.headers}\r\n".encode() + body
