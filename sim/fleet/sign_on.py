"""A local provider of OpenID Connect for the demonstration, whose users are the staff of the demonstration."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.fleet.staff import PEOPLE


@contextmanager
def local_provider() -> Iterator[str]:
    """Serve on loopback within the block; the value is the issuer. Raises: ImportError without oidc-provider-mock."""
    from oidc_provider_mock import User, run_server_in_thread

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    users = [
        User(sub=staff, claims={"name": name, "rap_roles": [role], "rap_locations": [scope]})
        for staff, name, role, scope, *_ in PEOPLE
    ]
    with run_server_in_thread(user_claims=users) as server:
        yield f"http://localhost:{server.server_port}"


def sign_on_table(issuer: str, port: int, secret: Path) -> str:
    """Return the configuration's table `[access.oidc]`; writes the client's secret, which the provider ignores."""
    secret.write_text("demonstration\n")
    return f"""
[access.oidc]
issuer = "{issuer}"
client_id = "rap-demonstration"
client_secret = "{secret.name}"
url = "http://127.0.0.1:{port}"
roles = "rap_roles"
locations = "rap_locations"
"""
