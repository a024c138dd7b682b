"""TLS versions, cipher suites and compression."""

from __future__ import annotations

import re
from typing import Final

from imaging.check.apache.expect import has_value, is_loaded, is_not_loaded
from imaging.check.apache.httpd import ApacheServer, Directive
from imaging.check.apache.rule import ApacheFinding, Findings, rule

PROTOCOLS: Final = frozenset({"tlsv1.2", "tlsv1.3"})
CIPHERS: Final = re.compile(
    r"(?:TLS_AES_(?:128|256)_GCM_SHA(?:256|384))|(?:ECDHE-(?:ECDSA|RSA)-AES(?:128|256)-GCM-SHA\d+)"
)
"""The suites of NIST SP 800-52r2, 3.3.1, with forward secrecy and authenticated encryption."""


@rule("AS24-U1-000030")
def tls_only(server: ApacheServer) -> Findings:
    """All connections use TLS."""
    yield from is_loaded(server, "ssl")
    yield from has_value(server, "SSLEngine", ("on",), "on")


@rule("AS24-U2-000030")
def protocols(server: ApacheServer) -> Findings:
    """Only TLS 1.2 and 1.3 are enabled."""
    if server.general("sslprotocol") is None:
        yield ApacheFinding(
            str(server.conf), "has no SSLProtocol", "write SSLProtocol -all +TLSv1.2 +TLSv1.3"
        )
    for one in server.named("sslprotocol"):
        if not _enabled(one) or not _enabled(one) <= PROTOCOLS:
            problem = f"SSLProtocol {' '.join(one.arguments)}"
            yield ApacheFinding(one.location, problem, "write SSLProtocol -all +TLSv1.2 +TLSv1.3")


def _enabled(one: Directive) -> set[str]:
    """Return the protocols that mod_ssl enables; a name without a sign replaces the names before it."""
    enabled: set[str] = set()
    every = {"tlsv1", "tlsv1.1", *PROTOCOLS}
    for argument in one.arguments:
        name = argument.lstrip("+-").lower()
        named = every if name == "all" else {name}
        if argument.startswith("-"):
            enabled -= named
        else:
            enabled = enabled | named if argument.startswith("+") else named
    return enabled


@rule("AS24-U1-000900")
def ciphers(server: ApacheServer) -> Findings:
    """Only approved cipher suites are enabled, each by name, and the server chooses."""
    if server.general("sslciphersuite") is None:
        yield ApacheFinding(
            str(server.conf),
            "has no SSLCipherSuite",
            "name the suites, such as ECDHE-ECDSA-AES128-GCM-SHA256",
        )
    for one in server.named("sslciphersuite"):
        for name in one.arguments[-1].split(":"):
            if not CIPHERS.fullmatch(name):
                yield ApacheFinding(
                    one.location,
                    f"{name} is not an approved suite",
                    "name AES-GCM suites with ECDHE, one by one",
                )
    yield from has_value(server, "SSLHonorCipherOrder", ("on",), "on")


@rule("AS24-U2-000870")
def compression_disabled(server: ApacheServer) -> Findings:
    """Responses are not compressed, which protects against attacks such as BREACH."""
    yield from is_not_loaded(server, ("deflate", "brotli"))
    for one in server.named("sslcompression"):
        if [word.lower() for word in one.arguments] != ["off"]:
            yield ApacheFinding(one.location, "SSLCompression is on", "write SSLCompression Off")
