"""Relays the certificate requests of instruments to the data center.

An instrument enrols at its port by EST, as the box does at the data center (`wire.est`). The box is the registration
authority: by relaying a request, it vouches that the instrument has connected with this certificate and that the site
file lists the instrument at this port. The data center decides, and the vendor's CA signs.

TLS accepts certificates outside their validity period here, so that an instrument whose certificate has expired can
request another. `refusal` prevents all other requests.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from http import HTTPStatus
from typing import Final

from agents.box.intake.intake import Note
from agents.box.uplink.certificate_requests import CertificateRequests
from agents.enrolment.renewal import EstRequest
from hal.clock import WallClock
from wire import est
from wire.audit_events import AuditEvent
from wire.http.connection import Request, Response
from wire.pki.request import RequestError, requested_key
from wire.process.ratelimit import TokenBucket
from wire.tls.peer import validity

ANSWER_SECONDS_MAX: Final = 20.0
"""Limit of the wait for the data center's response; then the instrument is asked to retry later."""
LATER_SECONDS: Final = 60
REQUESTS_BURST: Final = 8
REQUESTS_PER_SECOND: Final = 1 / 15
"""Limits of an instrument's requests, each of which takes 1.4 kB of the uplink."""
_TARGETS: Final = {est.ENROL: est.INSTRUMENT_ENROL, est.REENROL: est.INSTRUMENT_REENROL}
_RELAYED_HEADERS: Final = ("content-type", "retry-after", "etag", est.CA_TAG)
_VALIDITY: Final = "agents.box.intake.validity"


class CertificateRelay:
    """Relays the EST requests of instruments to the data center, and its responses back."""

    def __init__(self, requests: CertificateRequests, note: Note, clock: WallClock) -> None:
        self._requests, self._note, self._clock = requests, note, clock
        self._limits: dict[str, TokenBucket] = {}
        self._waiting: set[str] = set()
        """The instruments whose requests wait for approval."""

    def concerns(self, request: Request) -> bool:
        """Return whether a request belongs to EST."""
        return request.target.startswith(est.PREFIX)

    def refusal(self, request: Request) -> Response | None:
        """Return the refusal of a request that needs a valid certificate; None if the instrument has a valid one."""
        state = request.peer.state
        if _VALIDITY not in state:
            tls = request.peer.tls
            state[_VALIDITY] = validity(tls) if tls is not None else (0.0, float("inf"))
        begins, ends = state[_VALIDITY]
        if begins <= self._clock.now_ns() / 1e9 <= ends:
            return None
        text = f"the certificate of {request.peer.name} is not valid at present; request a new one by EST"
        return Response(HTTPStatus.FORBIDDEN, text.encode(), close=True)

    async def handle(self, request: Request, instrument: str, port: int) -> Response:
        """Answer a request of an instrument that is enrolled at this port."""
        match request.method, request.target:
            case "GET", est.ATTRIBUTES:
                return est.attributes_response()
            case "GET", est.CA_CERTIFICATES:
                tag = request.headers.get("if-none-match", "")
                headers = f"If-None-Match: {tag}\r\n" if tag else ""
                return await self._relay(EstRequest("GET", request.target, b"", headers), instrument)
            case "POST", est.ENROL | est.REENROL:
                return await self._enrol(request, instrument, port)
        return Response(HTTPStatus.NOT_FOUND, b"unknown EST path")

    async def _enrol(self, request: Request, instrument: str, port: int) -> Response:
        tls = request.peer.tls
        if tls is None or len(request.body) > est.REQUEST_BYTES_MAX:
            return Response(HTTPStatus.BAD_REQUEST, b"expected a certificate request over TLS")
        try:
            requested_key(est.decode_request(request.body), instrument)
        except est.EstError as error:
            return Response(HTTPStatus.BAD_REQUEST, str(error).encode())
        except RequestError as error:
            return Response(HTTPStatus.BAD_REQUEST, f"the request {error}".encode())
        certificate = b64encode(tls.getpeercert(binary_form=True) or b"").decode()
        headers = f"{est.REQUEST_HEADERS}{est.INSTRUMENT_CERTIFICATE}: {certificate}\r\n"
        relayed = EstRequest("POST", _TARGETS[request.target], request.body, headers)
        response = await self._relay(relayed, instrument)
        self._record(response.status, instrument, port)
        return response

    async def _relay(self, request: EstRequest, instrument: str) -> Response:
        limit = self._limits.setdefault(instrument, TokenBucket(REQUESTS_PER_SECOND, REQUESTS_BURST))
        later = {"retry-after": str(LATER_SECONDS)}
        if limit.take(1, asyncio.get_running_loop().time()):
            return Response(HTTPStatus.TOO_MANY_REQUESTS, b"too many requests for certificates", later)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                answer = await self._requests.ask_est(request)
        except TimeoutError:
            return Response(
                HTTPStatus.SERVICE_UNAVAILABLE, b"the data center cannot be reached at present", later
            )
        headers = {name: value for name, value in answer.headers.items() if name in _RELAYED_HEADERS}
        return Response(answer.status, answer.body, headers)

    def _record(self, status: int, instrument: str, port: int) -> None:
        if status == HTTPStatus.ACCEPTED:
            if instrument not in self._waiting:
                self._waiting.add(instrument)
                self._note(AuditEvent.INSTRUMENT_CERTIFICATE_AWAITS_APPROVAL, port=port)
            return
        if status == HTTPStatus.OK:
            self._note(AuditEvent.INSTRUMENT_CERTIFICATE_ISSUED, port=port)
        elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self._note(AuditEvent.INSTRUMENT_CERTIFICATE_REFUSED, status, port=port)
        self._waiting.discard(instrument)
