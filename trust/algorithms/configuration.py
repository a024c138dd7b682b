"""Algorithms in configuration files and shell scripts: names on lines that are not comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from trust.algorithms.finding import AlgorithmFinding, algorithms_in

_COMMENT: Final = re.compile(r"^\s*[#;].*$|\s#\s.*$")
_SETTING: Final = re.compile(
    r"cipher|algorithm|kex|macs?\b|hostkey|digest|\bauth\b|protocol|groups|curve|ike|esp\b|hash|tls|ssl|pbkdf|"
    r"openssl|sum\b|signature|keygen|-t\b|newkey|sigalg|ssh-|password|pam_unix|encrypt|HEX:|^host(no)?(ssl)?\s",
    re.IGNORECASE,
)
"""Lines about cryptography. Elsewhere a short word such as "des" is not an algorithm."""
_STORED: Final = re.compile(r":[!*]*\$(1|2[abxy]?|7|y|gy|sm3)\$")
"""The hash of a password in /etc/shadow that is neither SHA-256 nor SHA-512 (crypt(5))."""
_POLICY: Final = re.compile(r"(?:^|--set\s+)(LEGACY|DEFAULT|FUTURE|EMPTY)(?=[:\s]|$)")
"""The system-wide cryptographic policy, if it is not FIPS."""
_WIREGUARD: Final = re.compile(r"^\[Peer\]\s*$|^\s*kind\s*=\s*wireguard", re.IGNORECASE)
_NO_FIPS: Final = re.compile(r"(?<!\S)fips=0(?!\S)")
WHEEL: Final = re.compile(r"(^|/)cryptography-[^/]+\.dist-info/WHEEL$")


def scan_configuration(file: str, text: str) -> Iterator[AlgorithmFinding]:
    """Yield the algorithms in a configuration file or a script."""
    if WHEEL.search(file):
        yield AlgorithmFinding(
            file, 0, "library", "the wheel of cryptography bundles OpenSSL; use the distribution's"
        )
        return
    is_policy = "/crypto-policies/" in file
    for number, line in enumerate(text.splitlines(), 1):
        content = _COMMENT.sub("", line)
        if (is_policy or "update-crypto-policies" in content) and (policy := _POLICY.search(content)):
            yield AlgorithmFinding(
                file, number, "policy", f"the policy {policy[1]} of crypto-policies is not FIPS"
            )
        if stored := _STORED.search(content):
            yield AlgorithmFinding(
                file, number, "password hash", f"a password that is stored as ${stored[1]}$"
            )
        if _WIREGUARD.search(content):
            yield AlgorithmFinding(file, number, "library", "WireGuard uses ChaCha20 and X25519 alone")
        if _NO_FIPS.search(content):
            yield AlgorithmFinding(file, number, "policy", "the kernel is started without FIPS mode")
        if _SETTING.search(content):
            for algorithm, name in algorithms_in(content):
                yield AlgorithmFinding(file, number, algorithm, name)
