"""Sessions of signed-in staff, in the store, and the token that forms carry against cross-site request forgery.

The cookie is a random secret, of which the store has only the hash: a copy of the database opens no session. A
session contains the person and the method of the sign-in; rights are looked up at every request
(`WebServices.person`). It is valid in every process of the data center, also after a restart, until it expires, the
person is idle or signs out. The form token is derived from the secret, so that another site, which cannot read the
cookie, cannot compute it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
from sqlalchemy import delete, func, insert, select, text, update

from datacenter.sign_on.claims import ClaimedPerson
from datacenter.store.store import Store
from datacenter.store.tables.schema import staff_sign_ins, web_sessions

COOKIE: Final = "rap-session"
Way: TypeAlias = Literal["development", "oidc"]
SESSION_MS: Final = 10 * 3_600_000
"""A session ends after a working day; then the person signs in again."""
IDLE_MS: Final = 10 * 60_000
"""The default of `staff.idle_minutes`, after which an idle session ends: ten minutes, by APSC-DV-000080."""
_EXTENDED_EVERY_MS: Final = 30_000
"""A session is extended at most this often, to save writes."""
SESSIONS_OF_PERSON_MAX: Final = 5
"""Maximum number of concurrent sessions of a person; a further one ends the oldest."""
SECRET_BYTES: Final = 32
_SECRET_CHARACTERS: Final = 2 * SECRET_BYTES
_S: Final = web_sessions.c
_L: Final = staff_sign_ins.c
_SIGNED_IN: Final = text(
    "INSERT INTO staff_sign_ins (staff, at_ms) VALUES (:staff, :at_ms)"
    " ON CONFLICT (staff) DO UPDATE SET before_ms = staff_sign_ins.at_ms, at_ms = excluded.at_ms"
)
_CLAIMED: Final = msgspec.json.Decoder(ClaimedPerson)


@dataclass(frozen=True)
class SignedOn:
    """The provider's claims about a person, and the settings by which they were interpreted."""

    claimed: ClaimedPerson
    id_token: str
    settings: str
    """`Oidc.fingerprint`: changed settings end the session."""
    state: str
    """The state of the sign-on, which opens only one session."""


@dataclass(frozen=True)
class StaffSession:
    """A sign-in: the person, its time and method; `secret` is the value of the cookie."""

    secret: str
    staff: str
    signed_in_ms: int
    way: Way
    settings: str = ""
    claimed: ClaimedPerson | None = None
    id_token: str = ""
    other_sign_in_ms: int | None = None
    """The person's newest other sign-in, shown because it may be somebody else's; None if there is none."""
    may_extend: bool = False
    """Whether activity now postpones the end by long enough to be stored."""

    @property
    def form_token(self) -> str:
        """The token for forms of this session."""
        return hmac.digest(self.secret.encode(), b"form", "sha256").hex()

    def is_form_token(self, token: str) -> bool:
        """Return whether a form carries the token of this session."""
        return is_same_token(self.form_token, token)


class EndedSession(NamedTuple):
    """A session that has expired."""

    staff: str
    ended_at_ms: int


class StaffSessions:
    """The sessions in the store. All methods raise StoreError."""

    def __init__(
        self, store: Store, random_hex: Callable[[int], str] = secrets.token_hex, idle_ms: int = IDLE_MS
    ) -> None:
        self._store, self._random_hex, self._idle_ms = store, random_hex, idle_ms

    def begin(self, staff: str, now_ms: int, signed_on: SignedOn | None = None) -> str:
        """Open a session, and return its cookie; empty if the sign-on has already opened a session."""
        secret = self._random_hex(SECRET_BYTES)
        values: dict[str, object] = {"way": "development", "settings": "", "id_token": ""}
        if signed_on:
            values = {
                "way": "oidc",
                "settings": signed_on.settings,
                "claimed": msgspec.json.encode(signed_on.claimed).decode(),
                "id_token": signed_on.id_token,
                "state_sha256": _hash(signed_on.state),
            }
        with self._store.transaction() as connection:
            connection.execute(delete(web_sessions).where(_S.ends_at_ms <= now_ms))
            used = select(_S.staff).where(_S.state_sha256 == values.get("state_sha256"))
            if signed_on and connection.execute(used).first():
                return ""
            connection.execute(
                insert(web_sessions).values(
                    sha256=_hash(secret),
                    staff=staff,
                    signed_in_at_ms=now_ms,
                    ends_at_ms=self._end_ms(now_ms, now_ms),
                    **values,
                )
            )
            connection.execute(_SIGNED_IN, {"staff": staff, "at_ms": now_ms})
        return secret

    def expired(self, now_ms: int) -> list[EndedSession]:
        """Return the sessions that have expired; the next `begin` deletes them."""
        query = select(_S.staff, _S.ends_at_ms).where(_S.ends_at_ms <= now_ms).order_by(_S.ends_at_ms)
        return [EndedSession(*row) for row in self._store.read(query)]

    def count(self, staff: str, now_ms: int) -> int:
        """Return how many sessions of a person are open."""
        query = select(func.count()).where(_S.staff == staff, _S.ends_at_ms > now_ms)
        return int(next(self._store.read(query))[0])

    def end_oldest(self, cookie: str, staff: str, keep: int) -> None:
        """End the oldest sessions of a person, so that `keep` remain.

        The cookie's session is kept, even if the clock was set back.
        """
        others = select(_S.sha256).where(_S.staff == staff, _S.sha256 != _hash(cookie))
        newest = others.order_by(_S.signed_in_at_ms.desc(), _S.sha256)
        with self._store.transaction() as connection:
            older = list(connection.scalars(newest.offset(keep - 1)))
            connection.execute(delete(web_sessions).where(_S.sha256.in_(older)))

    def find(self, cookie: str, now_ms: int) -> StaffSession | None:
        """Return the session of a cookie; None if it is unknown, has ended or has expired."""
        if len(cookie) != _SECRET_CHARACTERS:
            return None
        columns = _S.staff, _S.signed_in_at_ms, _S.ends_at_ms, _S.way, _S.settings, _S.claimed, _S.id_token
        signed_in = web_sessions.outerjoin(staff_sign_ins, _L.staff == _S.staff)
        query = select(*columns, _L.at_ms, _L.before_ms).select_from(signed_in)
        row = next(self._store.read(query.where(_S.sha256 == _hash(cookie))), None)
        if row is None or not row.signed_in_at_ms <= now_ms < row.ends_at_ms:
            return None
        try:
            claimed = _CLAIMED.decode(row.claimed) if row.claimed else None
        except msgspec.DecodeError:  # written by another version of the program
            return None
        return StaffSession(
            cookie,
            row.staff,
            row.signed_in_at_ms,
            row.way,
            row.settings,
            claimed,
            row.id_token,
            row.at_ms if row.at_ms != row.signed_in_at_ms else row.before_ms,
            may_extend=row.ends_at_ms + _EXTENDED_EVERY_MS <= self._end_ms(row.signed_in_at_ms, now_ms),
        )

    def extend(self, session: StaffSession, now_ms: int) -> None:
        """Postpone the end of a session in which the person was active."""
        ends_at_ms = self._end_ms(session.signed_in_ms, now_ms)
        with self._store.transaction() as connection:
            this = _S.sha256 == _hash(session.secret)
            connection.execute(update(web_sessions).where(this).values(ends_at_ms=ends_at_ms))

    def _end_ms(self, signed_in_ms: int, active_ms: int) -> int:
        return min(signed_in_ms + SESSION_MS, active_ms + self._idle_ms)

    def end(self, session: StaffSession) -> None:
        """End a session in every process."""
        with self._store.transaction() as connection:
            connection.execute(delete(web_sessions).where(_S.sha256 == _hash(session.secret)))


def is_same_token(expected: str, token: str) -> bool:
    """Compare a form's token with the expected one in constant time."""
    return hmac.compare_digest(expected.encode(), token.encode("utf-8", "replace"))


def _hash(secret: str) -> str:
    """Return the hash of a secret of 256 random bits, for which a plain SHA-256 is enough."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
