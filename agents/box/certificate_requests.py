"""Requests for certificates on the connection of the reports: of the box itself and of instruments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agents.box.files.requests import SingleRequest, TransferRequest
from agents.enrolment.renewal import EstRequest
from wire.http.connection import Response

ANSWER_BYTES: Final = 1500
"""The usual size of an answer with a certificate."""


@dataclass(frozen=True, slots=True)
class EnrolmentMessage(TransferRequest):
    """A request of EST."""

    header_lines: str

    @property
    def headers(self) -> str:
        """See `TransferRequest`."""
        return self.header_lines


class CertificateRequests(SingleRequest):
    """Requests of EST, one at a time."""

    async def ask_est(self, request: EstRequest) -> Response:
        """Return the answer to a request."""
        method, target, body, headers = request
        message = EnrolmentMessage(method, target, body, ANSWER_BYTES, headers)
        return await self.ask(lambda _: message)
