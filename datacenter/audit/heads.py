"""Countersigns the heads of boxes' audit chains (`wire.audit_head`), and uses them to detect missing records."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from http import HTTPStatus
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from sqlalchemy import Connection, insert, select, update

from datacenter.store.calls import call_database
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit, box_audit_problems, box_chains
from wire.audit_head import CountersignedHead, HeadQuery, KnownHead, countersign, is_countersigned
from wire.http.connection import Request, Response
from wire.messages import MessageError, decode, encode

_A, _C, _P = box_audit.c, box_chains.c, box_audit_problems.c


class HeadRefused(NamedTuple):
    """The records of the box and those of the data center contradict each other."""

    problem: str


class HeadService:
    """Answers countersignature requests of boxes; `executor` is the thread of the store."""

    def __init__(
        self,
        store: Store,
        executor: Executor | None,
        key: EllipticCurvePrivateKey,
        now_ms: Callable[[], int],
    ) -> None:
        self._store, self._executor, self._key, self._now_ms = store, executor, key, now_ms

    async def answer(self, request: Request, box: str) -> Response:
        """Answer a request of a box."""
        if request.method != "POST":
            return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "POST"})
        try:
            query = decode(HeadQuery, request.body)
        except MessageError as error:
            return Response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error).encode())
        try:
            heads = await call_database(
                self._executor, answer_query, self._store.of(box), self._key, box, query, self._now_ms()
            )
        except StoreError:
            return Response(HTTPStatus.SERVICE_UNAVAILABLE, b"the database failed")
        if heads is None:
            return Response(HTTPStatus.ACCEPTED)
        if isinstance(heads, HeadRefused):
            return Response(HTTPStatus.CONFLICT, heads.problem.encode())
        return Response(HTTPStatus.OK, encode(heads))


def answer_query(
    store: Store, key: EllipticCurvePrivateKey, box: str, query: HeadQuery, now_ms: int
) -> CountersignedHead | HeadRefused | None:
    """Store and return the countersigned head; None if its records have not all arrived yet.

    Missing records are stored as a problem of the chain. Raises: StoreError.
    """
    with store.transaction() as connection:
        problem = _missing(connection, key, box, query.newest) if query.newest else None
        where, chain = query.head, _chain(connection, box, query.head.epoch)
        if problem is None and chain is None:
            return None  # nothing has arrived yet
        if problem is None and chain is not None and where.number > chain.number:
            return None
        if problem is None and chain is not None and where.number < chain.signed_number:
            message = f"the box has {where.number} records, but {chain.signed_number} were countersigned"
            problem = where, f"{message}: its tail was cut off"
        if problem is None and not _has(connection, box, where):
            problem = where, f"record {where.number} of the box differs from the stored one"
        if problem is not None:
            _note(connection, box, *problem, now_ms)
            return HeadRefused(problem[1])
        signed = countersign(box, where, now_ms, key)
        if chain is not None and where.number >= chain.signed_number:
            of_chain = (_C.box == box, _C.epoch == where.epoch)
            values = {"signed_number": where.number, "signed": encode(signed)}
            connection.execute(update(box_chains).where(*of_chain).values(values))
        return signed


class _Chain(NamedTuple):
    number: int
    signed_number: int
    removed: int


def _chain(connection: Connection, box: str, epoch: int) -> _Chain | None:
    query = select(_C.number, _C.signed_number, _C.removed).where(_C.box == box, _C.epoch == epoch)
    row = connection.execute(query).one_or_none()
    return None if row is None else _Chain(*row)


def _missing(
    connection: Connection, key: EllipticCurvePrivateKey, box: str, newest: CountersignedHead
) -> tuple[KnownHead, str] | None:
    """Return the problem if a head was countersigned, but its record is no longer stored."""
    if not is_countersigned(newest, box, [key.public_key()]):
        return None  # signed with an earlier key; proves nothing
    head = newest.head
    chain = _chain(connection, box, head.epoch)
    if chain is not None and (head.number <= chain.removed or _has(connection, box, head)):
        return None
    return (
        head,
        f"record {head.number} was countersigned, and is missing or was replaced: the box has the proof",
    )


def _has(connection: Connection, box: str, head: KnownHead) -> bool:
    of_record = (_A.box == box, _A.epoch == head.epoch, _A.number == head.number, _A.hash == head.digest)
    return connection.execute(select(_A.number).where(*of_record)).first() is not None


def _note(connection: Connection, box: str, head: KnownHead, problem: str, now_ms: int) -> None:
    key = {"box": box, "epoch": head.epoch, "number": head.number, "problem": problem}
    known = select(_P.number).where(*(_P[name] == value for name, value in key.items()))
    if connection.execute(known).first() is None:
        connection.execute(insert(box_audit_problems).values(**key, at_ms=now_ms))
