"""Sign-on by the configured provider: what the pages need of it."""

from __future__ import annotations

from dataclasses import dataclass

from datacenter.sign_on.provider import Provider
from datacenter.sign_on.settings import Oidc


@dataclass(frozen=True)
class SignOn:
    """The provider of `[access.oidc]`."""

    settings: Oidc
    provider: Provider
