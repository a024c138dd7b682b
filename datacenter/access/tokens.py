"""API tokens in the database, each for one person, one purpose and a limited time; only the hash is stored.

A token never has more rights than its owner: decisions are made for the owner, with the limits of the token. A secret
has 256 random bits, so that a plain SHA-256 is enough.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection
from typing import Final, NamedTuple

from sqlalchemy import and_, insert, select, update

from datacenter.access.request import ApiToken
from datacenter.access.vocabulary import Purpose
from datacenter.store.store import Store
from datacenter.store.tables.schema import api_tokens

PREFIX: Final = "rap_"
"""Prefix of each secret, by which secret scanners detect it in source code."""
DAYS_MAX: Final = 366
_T: Final = api_tokens.c


class StoredToken(NamedTuple):
    """An API token without its secret. `actions` and `scope` are separated by line feeds."""

    id: str
    owner: str
    purpose: Purpose
    actions: str
    scope: str
    created_at_ms: int
    expires_at_ms: int
    revoked_at_ms: int | None

    @property
    def limits(self) -> ApiToken:
        """The limits for decisions."""
        actions, scope = frozenset(self.actions.split("\n")), frozenset(self.scope.split("\n"))
        return ApiToken(self.id, actions, scope, self.expires_at_ms)

    def state(self, now_ms: int) -> str:
        """Return "valid", "expired" or "revoked"."""
        if self.revoked_at_ms is not None:
            return "revoked"
        return "valid" if now_ms < self.expires_at_ms else "expired"


_COLUMNS: Final = [_T[name] for name in StoredToken._fields]


def create_token(
    store: Store,
    owner: str,
    purpose: Purpose,
    actions: frozenset[str],
    scope: frozenset[str],
    now_ms: int,
    expires_ms: int,
) -> tuple[str, StoredToken]:
    """Store a new token; return its secret, which cannot be read again, and the token. Raises: StoreError."""
    secret = PREFIX + secrets.token_urlsafe(32)
    texts = "\n".join(sorted(actions)), "\n".join(sorted(scope))
    token = StoredToken(secrets.token_hex(4), owner, purpose, *texts, now_ms, expires_ms, None)
    with store.transaction() as connection:
        connection.execute(insert(api_tokens).values(**token._asdict(), sha256=_hash(secret)))
    return secret, token


def find_token(store: Store, secret: str) -> StoredToken | None:
    """Return the token with a secret, even if it is expired or revoked; None if it is unknown. Raises: StoreError."""
    row = next(store.read(select(*_COLUMNS).where(_T.sha256 == _hash(secret))), None)
    return StoredToken(*row) if row else None


def list_tokens(store: Store, owner: str = "") -> list[StoredToken]:
    """Return all tokens, or the tokens of one person, the latest first. Raises: StoreError."""
    query = select(*_COLUMNS).order_by(_T.created_at_ms.desc(), _T.id)
    return [StoredToken(*row) for row in store.read(query.where(_T.owner == owner) if owner else query)]


def revoked_among(store: Store, tokens: Collection[str]) -> set[str]:
    """Return the given token identifiers whose tokens are revoked. Raises: StoreError."""
    is_revoked = and_(_T.id.in_(tokens), _T.revoked_at_ms.is_not(None))
    return {row.id for row in store.read(select(_T.id).where(is_revoked))}


def revoke_token(store: Store, token: str, now_ms: int) -> StoredToken | None:
    """Revoke a token permanently, unless it was revoked before; return it, or None if unknown. Raises: StoreError."""
    valid = and_(_T.id == token, _T.revoked_at_ms.is_(None))
    with store.transaction() as connection:
        connection.execute(update(api_tokens).where(valid).values(revoked_at_ms=now_ms))
        row = connection.execute(select(*_COLUMNS).where(_T.id == token)).one_or_none()
    return StoredToken(*row) if row else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
