"""An OpenID Connect provider whose responses a test sets, such as wrong metadata, keys or ID tokens."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

CLIENT = "rap-test"


class PlantedProvider:
    """A provider on loopback.

    `answers` has the response body of each path, and `statuses` the status if it is not 200. `requests` are the
    received paths with their forms.
    """

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.keys: list[ECKey | RSAKey] = [ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})]
        self.requests = list[tuple[str, dict[str, str]]]()
        self.statuses = dict[str, int]()
        self.answers: dict[str, Any] = {
            "/.well-known/openid-configuration": self.metadata(),
            "/token": {},
        }
        self.publish()

    def metadata(self, **changes: object) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "end_session_endpoint": f"{self.issuer}/end",
            **changes,
        }

    def publish(self, *others: dict[str, Any]) -> None:
        """Publish the public keys of `keys`, and further keys (JWK)."""
        keys = [key.as_dict(private=False) for key in self.keys]
        self.answers["/keys"] = {"keys": [*keys, *others]}

    def claims(self, right_nonce: str, **changes: object) -> dict[str, object]:
        """Return correct claims with changes; None removes a claim."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": "engineer",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": right_nonce,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def issue(
        self,
        claims: dict[str, object],
        *,
        key: ECKey | RSAKey | OctKey | None = None,
        algorithm: str = "ES256",
        header: dict[str, object] | None = None,
    ) -> str:
        """Let the token endpoint return an ID token with these claims; return this token.

        None in `header` removes a header parameter.
        """
        key = key or self.keys[-1]
        parameters = {"alg": algorithm, "kid": key.kid, **(header or {})}
        present = {name: value for name, value in parameters.items() if value is not None}
        token = jwt.encode(present, claims, key, algorithms=[algorithm])
        self.answers["/token"] = {"id_token": token, "access_token": "access", "token_type": "Bearer"}
        return token


@contextmanager
def planted_provider() -> Iterator[PlantedProvider]:
    """Serve a provider within the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.reply(form | {"authorization": self.headers.get("authorization", "")})

        def reply(self, form: dict[str, str]) -> None:
            provider.requests.append((self.path, form))
            answer = provider.answers.get(self.path)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(provider.statuses.get(self.path, 404 if answer is None else 200))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider = PlantedProvider(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()


def unsigned(claims: dict[str, object]) -> str:
    """Return an ID token with `alg` none."""
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def signed_with(secret: bytes, claims: dict[str, object]) -> str:
    """Return an ID token with an HMAC under `secret`, such as a public key that a careless verifier would use."""
    signing_input = f"{_part({'alg': 'HS256', 'kid': 'one'})}.{_part(claims)}"
    return f"{signing_input}.{_base64(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


def _part(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
