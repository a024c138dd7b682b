"""Authentication at an HTTP proxy (RFC 9110, 11): Basic (RFC 7617), Digest (RFC 7616), Negotiate (RFC 4559) and NTLM.

The strongest scheme that the proxy offers is used. Digest may need MD5, and NTLM needs MD4 and MD5: they are used
only here, because the site's proxy requires it, and protect only the password towards that proxy. The box's data is
protected by TLS inside the tunnel.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, Final, Protocol

STRENGTH: Final = ("negotiate", "ntlm", "digest", "basic")
"""Schemes, strongest first: Negotiate may be Kerberos, and only Basic sends the password itself."""
ALGORITHMS: Final = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
"""Digest algorithms, strongest first, with their hashlib names."""
_PARAMETER: Final = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"]+)\s*,?\s*')
_SCHEME: Final = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|\Z|(?=,))")
_TOKEN68: Final = re.compile(r"([A-Za-z0-9+/_~.-]+=*)\s*(?:,|\Z)")


class Challenge:
    """One scheme offered by a server: its parameters by lower-case name, or its token."""

    def __init__(self, scheme: str, parameters: dict[str, str], token: str = "") -> None:
        self.scheme, self.parameters, self.token = scheme, parameters, token


def parse_challenges(values: list[str]) -> list[Challenge]:
    """Parse the values of `Proxy-Authenticate` fields; unrecognized parts are skipped."""
    challenges = []
    for value in values:
        at = 0
        while match := _SCHEME.match(value, at):
            at = match.end()
            parameters: dict[str, str] = {}
            token = _TOKEN68.match(value, at)
            if token:  # with padding it could also match as a parameter
                at = token.end()
            while parameter := _PARAMETER.match(value, at):
                parameters[parameter[1].lower()] = _unquoted(parameter[2])
                at = parameter.end()
            challenges.append(
                Challenge(match[1].lower(), parameters, token[1] if token and not parameters else "")
            )
    return challenges


class Scheme(Protocol):
    """An authentication in progress."""

    def answer(self, challenge: Challenge) -> str | None:
        """Return the `Proxy-Authorization` value that answers `challenge`; None if it has no further answer."""
        ...


class Basic:
    """Basic authentication: sends the password, in UTF-8 (RFC 7617, 2.1); tried once."""

    def __init__(self, user: str, password: str) -> None:
        self._answers = [basic(user, password)]

    def answer(self, challenge: Challenge) -> str | None:  # noqa: ARG002 - the answer does not depend on it
        """See `Scheme.answer`."""
        return self._answers.pop() if self._answers else None


def basic(user: str, password: str) -> str:
    """Return the `Proxy-Authorization` value for Basic."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


class Digest:
    """RFC 7616 with qop=auth, or RFC 2069 if the proxy offers no qop; retried if the nonce is stale."""

    def __init__(self, user: str, password: str, uri: str) -> None:
        self._user, self._password, self._uri = user, password, uri
        self._answered = False

    def answer(self, challenge: Challenge) -> str | None:
        """See `Scheme.answer`."""
        parameters = challenge.parameters
        if self._answered and parameters.get("stale", "").lower() != "true":
            return None
        self._answered = True
        return self._response(parameters)

    def _response(self, parameters: dict[str, str]) -> str:
        algorithm, nonce, realm = (
            parameters.get("algorithm", "MD5"),
            parameters["nonce"],
            parameters.get("realm", ""),
        )
        hashed = _hasher(algorithm)
        client_nonce, count = secrets.token_hex(16), "00000001"
        secret = hashed(f"{self._user}:{realm}:{self._password}")
        if algorithm.upper().endswith("-SESS"):
            secret = hashed(f"{secret}:{nonce}:{client_nonce}")
        request = hashed(f"CONNECT:{self._uri}")
        fields = {"realm": realm, "nonce": nonce, "uri": self._uri}
        plain = [f"algorithm={algorithm}"] if "algorithm" in parameters else []
        if "qop" in parameters:
            plain += ["qop=auth", f"nc={count}"]
            fields["cnonce"] = client_nonce
            fields["response"] = hashed(f"{secret}:{nonce}:{count}:{client_nonce}:auth:{request}")
        else:
            fields["response"] = hashed(f"{secret}:{nonce}:{request}")
        if "opaque" in parameters:
            fields["opaque"] = parameters["opaque"]
        quoted = [_user_field(self._user), *(f'{name}="{_escaped(value)}"' for name, value in fields.items())]
        return "Digest " + ", ".join(quoted + plain)


class Spnego:
    """NTLM, or Negotiate: Kerberos if the machine has a ticket, else NTLM. Bound to one connection."""

    def __init__(self, scheme: str, user: str, password: str, host: str) -> None:
        import spnego  # takes 50 ms and 10 MB, which only sites with these schemes need

        self._scheme = "NTLM" if scheme == "ntlm" else "Negotiate"
        protocol = "ntlm" if scheme == "ntlm" else "negotiate"
        self._context: Any = spnego.client(user, password, hostname=host, service="HTTP", protocol=protocol)
        self._begun = False

    def answer(self, challenge: Challenge) -> str | None:
        """See `Scheme.answer`."""
        from spnego.exceptions import SpnegoError

        if self._begun and not challenge.token:
            return None  # the server restarted the exchange: wrong user or password
        self._begun = True
        try:
            token = self._context.step(b64decode(challenge.token) if challenge.token else None)
        except (SpnegoError, ValueError):
            return None
        return f"{self._scheme} {b64encode(token).decode()}" if token else None


def choose(challenges: list[Challenge]) -> Challenge | None:
    """Return the strongest challenge that can be answered; None if there is none."""
    usable = [
        challenge
        for challenge in challenges
        if challenge.scheme in STRENGTH and (challenge.scheme != "digest" or _is_usable(challenge))
    ]
    return min(usable, key=_strength, default=None)


def _strength(challenge: Challenge) -> tuple[int, int]:
    algorithms = list(ALGORITHMS)
    name = challenge.parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")
    return STRENGTH.index(challenge.scheme), algorithms.index(name) if name in algorithms else 0


def _is_usable(challenge: Challenge) -> bool:
    parameters = challenge.parameters
    name = parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")
    offered = [option.strip().lower() for option in parameters.get("qop", "auth").split(",")]
    return (
        "nonce" in parameters and "auth" in offered and ALGORITHMS.get(name) in hashlib.algorithms_available
    )


def _hasher(algorithm: str) -> Callable[[str], str]:
    name = ALGORITHMS[algorithm.upper().removesuffix("-SESS")]
    return lambda text: hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


def _user_field(user: str) -> str:
    if user.isascii():
        return f'username="{_escaped(user)}"'
    encoded = "".join(
        f"%{byte:02X}" if byte > 126 or chr(byte) in "%'()*," else chr(byte) for byte in user.encode()
    )
    return f"username*=UTF-8''{encoded.replace(' ', '%20')}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
