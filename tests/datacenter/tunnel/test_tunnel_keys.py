"""The certificates of a session's tunnel are issued by two CAs with the same key and different names."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from agents.box.tunnel.tunnel import SessionKey
from datacenter.tunnel.keys import make_keys, make_tls_crypt
from tests.support.wire.grants import ENDPOINT
from wire.openvpn.program import PROGRAM

SESSION = "0123456789abcdef"


@pytest.mark.skipif(not shutil.which(PROGRAM), reason="needs OpenVPN: make setup-sessions")
def test_no_end_trusts_the_issuer_of_its_own_certificate() -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    tls_crypt = asyncio.run(make_tls_crypt(SESSION))
    keys = make_keys(SESSION, ENDPOINT, SessionKey().public_key, until, tls_crypt)
    server, client, of_server, of_client = (
        x509.load_pem_x509_certificate(pem.encode())
        for pem in (
            keys.server_certificate,
            keys.client_certificate,
            keys.server_authority,
            keys.client_authority,
        )
    )
    server.verify_directly_issued_by(of_server)
    client.verify_directly_issued_by(of_client)
    assert server.issuer != of_client.subject
    assert client.issuer != of_server.subject
    assert of_server.public_key() == of_client.public_key() == ENDPOINT.public_key()
