"""Certificate requests of the box and its instruments, on the connection over which the reports are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agents.box.files.requests import SingleRequest, TransferRequest
from agents.enrolment.renewal import EstRequest
from wire.http.connection import Response

ANSWER_BYTES: Final = 1500
"""The usual size of a response with a certificate."""


@dataclass(frozen=True, slots=True)
class EnrolmentMessage(TransferRequest):
    """An EST request (RFC 7030)."""

    header_lines: str

    @property
    def headers(self) -> str:
        """See `TransferRequest`."""
        return self.header_lines


class CertificateRequests(SingleRequest):
    """EST requests, one at a time."""

    async def ask_est(self, request: EstRequest) -> Response:
        """Send a request and return its response."""
        method, target, body, headers = request
        message = EnrolmentMessage(method, target, body, ANSWER_BYTES, headers)
        return await self.ask(lambda _: message)
