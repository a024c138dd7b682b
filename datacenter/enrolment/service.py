"""Answers the EST requests of boxes (`wire.est`), and refuses denied boxes and expired certificates elsewhere.

TLS accepts certificates outside their validity period (`wire.tls.context.server_context`), so that a box whose
certificate has expired can request a new one. `guarded` refuses all its other requests.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import b64decode
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from http import HTTPStatus
from typing import Final, TypeAlias

from cryptography import x509

from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.enrolment.registration import (
    WAITING_SECONDS_MAX,
    WAITING_SECONDS_MIN,
    Granted,
    Outcome,
    PendingApproval,
    RegistrationAuthority,
    Rejected,
)
from datacenter.front_ends import box_of, certificate_of
from datacenter.store.errors import StoreError
from wire import est
from wire.http.connection import Handler, Request, Response
from wire.messages import TIME_PATH
from wire.pki.request import RequestError
from wire.tls.certificates import CERTIFICATE_ERRORS

FAILED_RETRY_SECONDS: Final = 60
_VALIDITY: Final = "datacenter.enrolment.validity"
_NO_CERTIFICATE: Final = (0.0, 0.0)
_log: Final = logging.getLogger(__name__)
Decide: TypeAlias = Callable[[str, x509.Certificate, x509.CertificateSigningRequest], Outcome]


class EnrolmentService:
    """Answers EST requests; `executor` runs the registration authority, because it blocks for some milliseconds."""

    def __init__(
        self,
        registration: RegistrationAuthority,
        executor: Executor | None,
        datacenter_roots: Sequence[x509.Certificate] = (),
    ) -> None:
        """`datacenter_roots` are sent to boxes, which then also accept them for the data center's own certificate."""
        self._registration, self._executor = registration, executor
        self._named = {est.CA_CERTIFICATES: registration.authority.trusted}
        if datacenter_roots:
            self._named[est.DATACENTER_ROOTS] = tuple(datacenter_roots)
        self._tags = {path: est.etag_of(certificates) for path, certificates in self._named.items()}

    async def answer(self, request: Request, box: str, *, is_from_front_end: bool) -> Response:
        """Answer a request of the box with this serial number."""
        match request.method, request.target:
            case "GET", path if path in self._named:
                tag = self._tags[path]
                if request.headers.get("if-none-match") == tag:
                    return Response(HTTPStatus.NOT_MODIFIED, headers={"etag": tag})
                return est.certificates_response(self._named[path], etag=tag)
            case "GET", est.ATTRIBUTES:
                return est.attributes_response()
            case "POST", est.ENROL | est.REENROL:
                current = _certificate(request, is_from_front_end=is_from_front_end)
                return await self._enrol(request, box, current, self._registration.enrol)
            case "POST", est.INSTRUMENT_ENROL | est.INSTRUMENT_REENROL:
                current = _decoded(request.headers.get(est.INSTRUMENT_CERTIFICATE, ""))
                return await self._enrol(request, box, current, self._registration.enrol_instrument)
            case _, est.CA_CERTIFICATES | est.ATTRIBUTES | est.ENROL | est.REENROL:
                return Response(
                    HTTPStatus.METHOD_NOT_ALLOWED, b"GET for certificates and attributes, POST to enrol"
                )
        return Response(HTTPStatus.NOT_FOUND, b"unknown EST path")

    async def _enrol(
        self, request: Request, box: str, current: x509.Certificate | None, decide: Decide
    ) -> Response:
        if current is None:
            return Response(HTTPStatus.UNAUTHORIZED, b"the certificate of the device was not passed on")
        if len(request.body) > est.REQUEST_BYTES_MAX:
            text = f"a certificate request has at most {est.REQUEST_BYTES_MAX} bytes"
            return Response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text.encode())
        loop = asyncio.get_running_loop()
        try:
            wanted = est.decode_request(request.body)
            outcome = await loop.run_in_executor(self._executor, decide, box, current, wanted)
        except est.EstError as error:
            return Response(HTTPStatus.BAD_REQUEST, str(error).encode())
        except RequestError as error:
            return Response(HTTPStatus.BAD_REQUEST, f"the request {error}".encode())
        except Exception as error:
            # errors of the database, or of the security module, whose exceptions have no common base class
            _log.error(
                "%s gets no certificate: %s", box, error if isinstance(error, StoreError) else repr(error)
            )
            later = {"retry-after": str(FAILED_RETRY_SECONDS)}
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"no certificate can be issued now", later)
        match outcome:
            case Granted(certificate):
                name = certificate.subject.rfc4514_string()
                _log.info("%s: %s has a certificate until %s", box, name, certificate.not_valid_after_utc)
                chain = [certificate, *self._registration.authority.chain]
                headers = {est.CA_TAG: est.CA_CERTIFICATES}
                # instruments do not connect to the data center
                if not request.target.startswith(est.INSTRUMENTS):
                    headers[est.ROOTS_TAG] = est.DATACENTER_ROOTS
                tags = {name: self._tags[path] for name, path in headers.items() if path in self._tags}
                return est.certificates_response(chain, **tags)
            case PendingApproval(waited_s):
                again_s = min(max(WAITING_SECONDS_MIN, int(waited_s)), WAITING_SECONDS_MAX)
                return est.waiting_response(again_s)
            case Rejected(reason, retry_after_s):
                _log.warning("%s gets no certificate: %s", box, reason)
                if retry_after_s:
                    later = {"retry-after": str(retry_after_s)}
                    return Response(HTTPStatus.TOO_MANY_REQUESTS, reason.encode(), later)
                return Response(HTTPStatus.FORBIDDEN, reason.encode())


def guarded(
    handler: Handler, denied: DeniedBoxes, now_s: Callable[[], float], front_ends: Collection[str] = ()
) -> Handler:
    """Return a handler that forwards permitted requests to `handler`.

    All requests of a denied box are refused. With a certificate outside its validity period, a box may only enrol and
    request the time; front ends check the validity of boxes' certificates themselves. `now_s` is the wall clock.
    """

    async def guard(request: Request) -> Response:
        box, path = box_of(request, front_ends), request.target
        if box in denied:
            return Response(HTTPStatus.FORBIDDEN, f"{box} is on the deny-list".encode(), close=True)
        if _VALIDITY not in request.peer.state:
            request.peer.state[_VALIDITY] = _validity(request)
            denied.connected(request.peer)
        begins, ends = request.peer.state[_VALIDITY]
        is_for_all = path == TIME_PATH or (
            path.startswith(est.PREFIX) and not path.startswith(est.INSTRUMENTS)
        )
        if not begins <= now_s() <= ends and not is_for_all:
            text = f"the certificate of {request.peer.name} is not valid at present; request a new one by EST"
            return Response(HTTPStatus.FORBIDDEN, text.encode(), close=True)
        return await handler(request)

    return guard


def _validity(request: Request) -> tuple[float, float]:
    """Return the validity period of the client's certificate, in seconds since 1970."""
    certificate = _certificate(request, is_from_front_end=False)
    if certificate is None:
        return _NO_CERTIFICATE
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _certificate(request: Request, *, is_from_front_end: bool) -> x509.Certificate | None:
    der = certificate_of(request, is_from_front_end=is_from_front_end)
    try:
        return x509.load_der_x509_certificate(der) if der else None
    except CERTIFICATE_ERRORS:
        return None


def _decoded(text: str) -> x509.Certificate | None:
    """Return the certificate in a header; None if there is none."""
    try:
        return x509.load_der_x509_certificate(b64decode(text, validate=True))
    except CERTIFICATE_ERRORS:  # binascii.Error is a ValueError
        return None
