"""Receives batches by `POST /v1/batches`, and responds after they have been committed.

The body is one block of the connection's compressed stream. Meaning of the status codes:

    200  the whole batch is committed; the body is a BatchReply
    400  the body is not a block of a stream; the connection is closed, and a new one starts a new stream
    403  the certificate's name is not the name of an authorized box; the connection is closed
    409  the body continues a stream whose beginning this connection has not received, because an intermediary
         distributes requests over connections: send self-contained batches
    422  the content of the block is not a complete and valid Batch; the connection is closed. If only records are
         invalid, the body is a BatchRefusal that names the first of them
    503  the database failed, or too many records wait for it; nothing is stored: send the batch again later, on the
         same stream

Requests for files (`wire.files`) on the same connections are handled by `datacenter.commands.ranges`. The messages
of remote sessions are exchanged by `POST /v1/sessions` (`datacenter.sessions.exchange`), those of updates by
`POST /v1/update`; `GET /v1/releases/…` serves the metadata of releases (`datacenter.releases.service`). Certificates
are issued through EST (`datacenter.enrolment.service`). Heads of audit chains are countersigned by
`POST /v1/audit-head` (`datacenter.audit.heads`).

The response to `GET /v1/time` has status 204 and the time in the `Date` header, for boxes with a wrong clock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Final, Protocol, get_args

import msgspec

from datacenter.audit.heads import HeadService
from datacenter.commands.ranges import FileRanges
from datacenter.enrolment.box_lists import DeniedBoxes
from datacenter.enrolment.service import EnrolmentService
from datacenter.front_ends import box_of, certificate_of
from datacenter.releases.service import ReleaseService
from datacenter.store.batches.batch import Received
from datacenter.store.errors import StoreError, UnknownBoxError
from datacenter.store.queue import IngestQueue, QueueFullError
from wire import est
from wire.audit_head import PATH as HEAD_PATH
from wire.compression import CompressionError, Decompressor, UnknownStreamError
from wire.files import FILES_PATH, parse_range
from wire.http.connection import Handler, Request, Response
from wire.messages import (
    BATCH_BYTES_MAX,
    DENIED_MAX,
    TIME_PATH,
    Alert,
    Batch,
    BoxReport,
    CommandResult,
    CommandStep,
    MessageError,
    decode,
    encode,
    find_undecodable_record,
)
from wire.release.messages import PATH as UPDATE_PATH
from wire.release.messages import RELEASES_PATH, TARGET_BYTES_MAX
from wire.session.messages import PATH as SESSIONS_PATH

PATH: Final = "/v1/batches"
RETRY_AFTER_SECONDS: Final = 10
"""`Retry-After` while too many records wait for the database."""
_URGENT: Final = (Alert, CommandResult, CommandStep, *get_args(BoxReport))


class BoxSessionExchange(Protocol):
    """Exchanges the messages of remote sessions with boxes, as `datacenter.sessions.remote.RemoteSessions` does."""

    def is_authorized(self, box: str) -> bool:
        """Return whether a box may have sessions."""
        ...

    def has_messages(self, box: str) -> bool:
        """Return whether messages wait for a box."""
        ...

    async def answer(self, box: str, certificate: bytes | None, request: Request) -> Response:
        """Answer a request of an authorized box, which is connected with this certificate (DER)."""
        ...


_STREAM: Final = "datacenter.ingest.stream"


def make_ingest(
    now_ms: Callable[[], int],
    queue: IngestQueue,
    front_ends: Collection[str] = (),
    files: FileRanges | None = None,
    sessions: BoxSessionExchange | None = None,
    releases: ReleaseService | None = None,
    enrolment: EnrolmentService | None = None,
    heads: HeadService | None = None,
    denied: DeniedBoxes | None = None,
) -> Handler:
    """Return the handler that stores batches through `queue`, and answers requests for files with `files`.

    `sessions` exchanges the messages of remote sessions, `releases` serves releases and orders, `enrolment` issues
    certificates, `heads` countersigns the heads of audit chains; None: this service is not offered. Responses list
    the denied instruments of the box, from `denied`.

    `now_ms` is the data center's wall clock. The name in the peer's certificate is the box's serial number, so the
    server must require client certificates. `front_ends` are the certificate names of front ends that terminate the
    boxes' TLS: only these may name the box (`datacenter.front_ends`).
    """

    async def ingest(request: Request) -> Response:
        if request.target == TIME_PATH:
            return Response(HTTPStatus.NO_CONTENT)
        if releases is not None and (answer := _answer_release(request, releases, front_ends)):
            return await answer
        if files is not None and request.target.startswith(FILES_PATH):
            return await files.answer(request, box_of(request, front_ends))
        if sessions is not None and request.target == SESSIONS_PATH:
            return await _answer_session(request, sessions, front_ends)
        if enrolment is not None and request.target.startswith(est.PREFIX):
            box, is_from_front_end = box_of(request, front_ends), request.peer.name in front_ends
            return await enrolment.answer(request, box, is_from_front_end=is_from_front_end)
        if heads is not None and request.target == HEAD_PATH:
            return await heads.answer(request, box_of(request, front_ends))
        if request.target != PATH:
            return _refusal(HTTPStatus.NOT_FOUND, f"unknown path; batches are sent to {PATH}")
        if request.method != "POST":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "POST"})
        stream: Decompressor = request.peer.state.setdefault(_STREAM, Decompressor())
        try:
            data = stream.decompress(request.body, BATCH_BYTES_MAX)
            batch = decode(Batch, data)
            box = box_of(request, front_ends)
            reply = await queue.run(
                Received(box, batch, now_ms()),
                urgent=_is_urgent(batch),
                is_abandoned=lambda: request.peer.is_lost,
            )
        except UnknownStreamError as error:
            return _refusal(HTTPStatus.CONFLICT, str(error))
        except CompressionError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error), close=True)
        except MessageError as error:
            named = find_undecodable_record(data)
            body = encode(named) if named else str(error).encode()
            return Response(HTTPStatus.UNPROCESSABLE_ENTITY, body, close=True)
        except UnknownBoxError:
            return _refusal(HTTPStatus.FORBIDDEN, f"{box!r} is not an authorized box", close=True)
        except QueueFullError:
            wait = {"retry-after": str(RETRY_AFTER_SECONDS)}
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"too many records wait for the database", wait)
        except StoreError:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, "the database failed; nothing was stored")
        if sessions is not None and sessions.has_messages(box):
            reply = msgspec.structs.replace(reply, sessions=True)
        if releases is not None and releases.has_news(box):
            reply = msgspec.structs.replace(reply, updates=True)
        if denied is not None and (instruments := denied.instruments(box)):
            reply = msgspec.structs.replace(reply, denied=instruments[:DENIED_MAX])
        return Response(HTTPStatus.OK, encode(reply))

    return ingest


def _answer_release(
    request: Request, releases: ReleaseService, front_ends: Collection[str]
) -> Awaitable[Response] | None:
    """Return the response to a request about updates or for a release; None for other requests."""
    box = box_of(request, front_ends)
    if request.target == UPDATE_PATH:
        return releases.answer_state(request, box)
    if request.target.startswith(RELEASES_PATH):
        return releases.answer_metadata(request, box)
    if request.method == "GET" and (wanted := parse_range(request.target, TARGET_BYTES_MAX)):
        return releases.answer_target(wanted, box) if releases.has_target(wanted.sha256) else None
    return None


async def _answer_session(
    request: Request, sessions: BoxSessionExchange, front_ends: Collection[str]
) -> Response:
    box = box_of(request, front_ends)
    if not sessions.is_authorized(box):
        return _refusal(HTTPStatus.FORBIDDEN, f"{box!r} is not an authorized box", close=True)
    certificate = certificate_of(request, is_from_front_end=request.peer.name in front_ends)
    return await sessions.answer(box, certificate, request)


def _is_urgent(batch: Batch) -> bool:
    """Return whether the batch has no routine record."""
    return all(isinstance(record.entry.body, _URGENT) for record in batch.records)


def _refusal(status: HTTPStatus, reason: str, *, close: bool = False) -> Response:
    return Response(status, reason.encode(), close=close)
