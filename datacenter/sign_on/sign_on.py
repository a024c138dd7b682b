"""Sign-on by the configured provider: the interface for the pages."""

from __future__ import annotations

from dataclasses import dataclass

from datacenter.sign_on.provider import Provider
from datacenter.sign_on.settings import Oidc


@dataclass(frozen=True)
class SignOn:
    """The provider of `[access.oidc]`."""

    settings: Oidc
    provider: Provider
