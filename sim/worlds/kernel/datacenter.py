"""The data center in the kernel world: `rap dc serve` on a separate host, with faults."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

from datacenter.access.tokens import create_token
from datacenter.store import queries
from datacenter.store.store import Store
from settings.profile import Verb
from sim.engine.layers import End, Layers
from sim.faults.world import Certificate
from sim.lab.labfile import Lab
from sim.lab.shipped_triggers import SHIPPED_TRIGGERS
from sim.worlds.kernel.namespaces.host import NamespaceHost
from sim.worlds.kernel.namespaces.process import LabProcess
from sim.worlds.kernel.sessions import PAGES_PORT, TUNNEL_PORT
from sim.worlds.shared.site.addresses import BOX_SERIAL, DATACENTER_PORT, DATACENTER_TUNNEL
from sim.worlds.shared.site.session_keys import SessionKeys
from sim.worlds.shared.staff.commands import queue_command
from sim.worlds.shared.staff.enrolment import approve_waiting, follow_denial
from wire.tls.context import Identity

CONFIG: Final = """\
boxes = ["{box}"]
[listen]
host = "0.0.0.0"
port = {port}
[tls]
certificate = "{identity.certificate}"
key = "{identity.key}"
authorities = "{identity.authorities}"
[store]
url = "{url}"
"""
RELEASES: Final = """\
[releases]
folder = "{folder}"
"""
EVALUATION: Final = f"""\
[evaluation]
triggers = "{SHIPPED_TRIGGERS}"
"""


ENROLMENT: Final = """\
[enrolment]
certificate = "{}"
key = "{}"
"""
SESSIONS: Final = """\
[staff]
directory = "staff.toml"
port = {pages}
development = true
[sessions]
key = "{keys.offer_key}"
folder = "remote-sessions"
address = "{address}"
port = {port}
"""
SITE: Final = """\
[site.clinic]
name = "Clinic"
country = "DE"
region = "europe"
zone = "Europe/Berlin"
boxes = ["{box}"]
"""
STAFF: Final = """\
[staff."{name}"]
roles = ["service-engineer"]
scope = ["everywhere"]
[staff."{name}".trainings]
{trainings}
"""
_TOKEN_MS: Final = 86_400_000


class KernelDataCenter:
    """A running data center; `identities` are the certificates it can present, "good" among them."""

    def __init__(
        self,
        host: NamespaceHost,
        folder: Path,
        identities: Mapping[str, Identity],
        *,
        evaluates_triggers: bool = False,
        session_keys: SessionKeys | None = None,
        vendor: tuple[Path, Path] | None = None,
        lab: Lab,
        releases: Path | None = None,
    ) -> None:
        """With `session_keys` it has remote sessions, which the staff of `lab` request.

        With `releases`, a folder, it updates boxes; with `vendor`, the certificate and the key of the vendor's CA, it
        issues certificates.
        """
        self._enrolment = ENROLMENT.format(*vendor) if vendor else ""
        self._host, self._folder, self._identities = host, folder, identities
        self._evaluation = EVALUATION if evaluates_triggers else ""
        self._releases = RELEASES.format(folder=releases) if releases else ""
        self._url = f"sqlite:///{folder / 'reports.db'}"
        self._process: LabProcess | None = None
        self._certificates = Layers[Certificate]()
        self.presented: Certificate | None = None
        """The certificate that the program uses now; None while it does not run."""
        self._holds = Layers[None]()
        self._denials = Layers[None](self._follow_denials)
        self._presenting = asyncio.Lock()
        folder.mkdir()
        self.session_audit = folder / "remote-sessions" / "sessions.audit"
        """The audit file of remote sessions."""
        self._sessions = ""
        self._staff = sorted({session.staff for session in lab.sessions})
        self._secrets: dict[str, str] = {}
        if session_keys is not None:
            self.session_audit.parent.mkdir()
            self._add_staff(lab, session_keys)

    def _add_staff(self, lab: Lab, keys: SessionKeys) -> None:
        models = sorted({spec.model for spec in lab.instruments})
        trainings = "\n".join(f"{model} = 2200-01-01" for model in models)
        (self._folder / "staff.toml").write_text(
            "".join(STAFF.format(name=name, trainings=trainings) for name in self._staff)
        )
        (self._folder / "fleet.toml").write_text(SITE.format(box=BOX_SERIAL))
        self._sessions = SESSIONS.format(
            pages=PAGES_PORT, keys=keys, address=DATACENTER_TUNNEL, port=TUNNEL_PORT
        )
        if keys.box is not None:
            self._sessions += f'box_keys = "{keys.box_keys_folder}"\n'

    def secret(self, staff: str) -> str:
        """Return the secret of an API token of a staff member."""
        if staff not in self._secrets:
            now_ms = time.time_ns() // 1_000_000
            actions, scope = frozenset({"read", "change"}), frozenset({"everywhere"})
            token = create_token(self.store, staff, "service", actions, scope, now_ms, now_ms + _TOKEN_MS)
            self._secrets[staff] = token[0]
        return self._secrets[staff]

    async def start(self) -> None:
        """Start the program with the "good" certificate, and wait until boxes can connect."""
        await self._present()

    async def present(self, certificate: Certificate) -> End:
        """Present a certificate of `identities`; the latest of several applies. Open connections are closed."""
        return await self._certificates.add_settled(certificate, self._present)

    async def hold_down(self) -> End:
        """Kill the program; it is restarted when every hold has ended."""
        return await self._holds.add_settled(None, self._present)

    async def _present(self) -> None:
        """Run the program with the certificate that applies now, restart it after a change, or stop it."""
        async with self._presenting:
            certificate = None if self._holds else self._certificates.newest or "good"
            if certificate != self.presented:
                self.presented = certificate
                await self._kill()
                if certificate is not None:
                    await self._start(certificate)

    async def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def _start(self, identity: str) -> None:
        config = self._folder / f"{identity}.toml"
        config.write_text(
            ('fleet = "fleet.toml"\n' if self._sessions else "")
            + CONFIG.format(
                box=BOX_SERIAL, port=DATACENTER_PORT, identity=self._identities[identity], url=self._url
            )
            + self._evaluation
            + self._releases
            + self._enrolment
            + self._sessions
        )
        self._process = process = self._host.spawn(
            [sys.executable, "-m", "rap", "dc", "serve", "--config", config]
        )
        await process.ready(lambda: "ready" in process.output())

    def queue_command(self, instrument: str, verb: Verb, content: bytes, expires_after_ns: int | None) -> int:
        """See `sim.faults.world.DataCenterPart`."""
        now_ms = time.time_ns() // 1_000_000
        return queue_command(self.store, BOX_SERIAL, instrument, verb, content, now_ms, expires_after_ns)

    def withdraw_command(self, command: int) -> None:
        """See `sim.faults.world.DataCenterPart`."""
        self.store.withdraw_command(command, time.time_ns() // 1_000_000)

    def approve_enrolments(self) -> None:
        """See `sim.faults.world.DataCenterPart`."""
        approve_waiting(self.store, time.time_ns() // 1_000_000)

    def deny_box(self) -> End:
        """See `sim.faults.world.DataCenterPart`."""
        return self._denials.add(None)

    def _follow_denials(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        follow_denial(self.store, BOX_SERIAL, now_ms, is_denied=bool(self._denials))

    def stop(self) -> None:
        """Kill the program; its database remains."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    @cached_property
    def store(self) -> Store:
        """A connection to its database."""
        return Store(self._url)

    @property
    def stored(self) -> int:
        """The number of records stored so far; duplicates are not counted."""
        return sum(queries.counts(self.store).values())
