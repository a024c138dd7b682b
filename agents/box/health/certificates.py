"""The box's own certificate: TLS contexts created from its files, reloaded when these change, and its expiry.

Changed files are used for new connections once they are complete: unchanged in two consecutive checks, and matching
each other. They are not used if they are unusable, or if peers would refuse them but accept the current ones.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import msgspec

from agents.box.health.audit import AuditLog
from agents.enrolment.certificate_files import BoxCertificates
from hal.clock import WallClock
from hal.indicators import Light
from wire.audit_events import AuditEvent
from wire.tls.context import ClientContext, client_context, server_context
from wire.tls.identity import FileVersions, Inspection, Severity

EXPIRY_CHECK_SECONDS: Final = 6 * 3600.0
DAY_SECONDS: Final = 86_400
_LIGHTS: Final = {None: Light.OFF, Severity.SOON: Light.SLOW}


class OwnCertificate:
    """The certificate, key and trusted CAs of a box. `server_tls` and `client_tls` are the contexts in use."""

    def __init__(self, files: BoxCertificates, clock: WallClock, *, checks_dates: bool = True) -> None:
        """Without `checks_dates`, `server_tls` accepts clients with certificates outside their validity period.

        Raises: OSError or ssl.SSLError for unusable files.
        """
        self._files, self._clock, self._checks_dates = files, clock, checks_dates
        self._versions = FileVersions(msgspec.structs.asdict(files).values())
        self.server_tls = server_context(files.server_identity(), checks_dates=checks_dates)
        self.client_tls = client_context(files.client_identity())
        self._accepted = self._is_accepted()

    @property
    def files(self) -> BoxCertificates:
        """The files in use."""
        return self._files

    def switch(self, files: BoxCertificates, client_tls: ClientContext | None = None) -> None:
        """Use other files from now on; `client_tls` is a context already created from them.

        Raises: OSError or ssl.SSLError for unusable ones, with nothing changed.
        """
        server_tls = server_context(files.server_identity(), checks_dates=self._checks_dates)
        self.client_tls = client_tls or client_context(files.client_identity())
        self.server_tls = server_tls
        self._files, self._versions = files, FileVersions(msgspec.structs.asdict(files).values())
        self._accepted = self._is_accepted()

    def inspect(self) -> Inspection:
        """Return the current problems of the files."""
        return self._files.inspect(self._clock.now_ns() / 1e9)

    def refresh(self, *, at_once: bool = False) -> AuditEvent | None:
        """Use files that have changed, unless they may be incomplete.

        Returns the audit event, or None if nothing has changed. With `at_once`, a single check suffices.
        """
        if not self._versions.have_settled(at_once=at_once):
            return None
        accepted = self._is_accepted()
        if self._accepted and not accepted:
            return AuditEvent.CERTIFICATE_NOT_RENEWED
        try:
            server_tls = server_context(self._files.server_identity(), checks_dates=self._checks_dates)
            client_tls = client_context(self._files.client_identity())
        except (OSError, ssl.SSLError):
            return AuditEvent.CERTIFICATE_NOT_RENEWED
        self.server_tls, self.client_tls, self._accepted = server_tls, client_tls, accepted
        return AuditEvent.CERTIFICATE_RENEWED

    async def watch(self, audit: AuditLog, show: Callable[[Light], None]) -> None:
        """Report periodically, until cancelled, if the certificate is refused or expires soon; see `note`."""
        while True:
            self.note(audit, show)
            await asyncio.sleep(EXPIRY_CHECK_SECONDS)

    def note(self, audit: AuditLog, show: Callable[[Light], None]) -> None:
        """Report the worst problem in the audit log, with the remaining days, and on the alarm LED."""
        inspection = self.inspect()
        worst = inspection.worst
        show(_LIGHTS.get(worst, Light.FAST))
        if worst is not None:
            days = int(((inspection.expires_s or 0.0) - self._clock.now_ns() / 1e9) // DAY_SECONDS)
            soon = worst is Severity.SOON
            audit.note(AuditEvent.CERTIFICATE_EXPIRES_SOON if soon else AuditEvent.CERTIFICATE_REFUSED, days)

    def _is_accepted(self) -> bool:
        return self.inspect().worst in (None, Severity.SOON)
