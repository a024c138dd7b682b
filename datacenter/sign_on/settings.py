"""The table `[access.oidc]` of the data center's configuration, which `datacenter.config` describes."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from datacenter.access.directory import Location
from datacenter.access.vocabulary import Role
from settings.types import Table

Claim = Annotated[str, Meta(min_length=1, max_length=200)]


class Oidc(Table, frozen=True):
    """The provider, this program as its client, and the meaning of claims."""

    issuer: str
    client_id: Annotated[str, Meta(min_length=1, max_length=200)]
    url: str
    client_secret: Path | None = None
    authorities: Path | None = None
    person: Claim = "sub"
    roles: Claim | None = None
    locations: Claim | None = None
    trainings: Claim | None = None
    role: dict[str, Role] = {}
    location: dict[str, Location] = {}

    @property
    def fingerprint(self) -> str:
        """A hash of all settings; sessions that began with other settings end."""
        return sha256(repr(msgspec.structs.asdict(self)).encode()).hexdigest()

    @property
    def host(self) -> str:
        """The host name of the pages, as browsers see it."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach the pages by HTTPS, so that cookies can require it."""
        return self.url.startswith("https://")


def url_problem(url: str) -> str:
    """Return why a URL is not acceptable; empty if it is (HTTPS, or HTTP on this machine, without user and query)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL; write one like https://login.example.com"
    if (
        not host
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or not url.isprintable()
        or " " in url
    ):
        return "must be a URL like https://login.example.com, without user, query and fragment"
    is_local = host in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        return "must begin with https:// (http:// only for 127.0.0.1 or localhost)"
    return ""
