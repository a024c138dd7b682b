"""A finding: an algorithm that is not approved, and its location."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class AlgorithmFinding(NamedTuple):
    """An algorithm on line `line` of `file`; line 0 stands for the whole file."""

    file: str
    line: int
    algorithm: str
    text: str

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}" if self.line else self.file
        return f"{location}: {self.algorithm}: {self.text}"


_NAMES: Final = {
    "md2|md4|md5|hmac-md5(-96)?(-etm@openssh\\.com)?|md5[-_]?sess": "MD5",
    "ripemd-?160|hmac-ripemd160(@openssh\\.com)?|rmd160": "RIPEMD",
    "blake2[bs]?(-?\\d+)?|blake3": "BLAKE",
    "sm[234]|streebog|gost\\w*|whirlpool|tiger192": "national",
    "rc[245]|arc4|arcfour(128|256)?": "RC4",
    "chacha20([-_]?poly1305)?(@openssh\\.com)?|chacha|xchacha\\w*|salsa20": "ChaCha20",
    "(ssh-|sk-ssh-)?ed25519(@openssh\\.com)?(-cert-v01@openssh\\.com)?|eddsa|ed448": "EdDSA",
    "x25519\\w*|curve25519(-sha256)?(@libssh\\.org)?|sntrup761x25519-sha512(@openssh\\.com)?|x448": "X25519",
    "blowfish(-cbc)?|bf-(cbc|cfb|ecb|ofb)|cast5?(128)?-?(cbc|cfb|ecb|ofb)|cast5|cast128-cbc|twofish": "old cipher",
    "3des(-cbc)?|des-ede3?(-cbc)?|des3|des-cbc3?(-sha)?|des|tripledes|idea(-cbc)?|seed(-cbc)?": "DES",
    "camellia-?\\d*(-\\w+)*|aria-?\\d+(-\\w+)*": "not in OpenSSL's FIPS provider",
    "umac-(64|128)(-etm)?(@openssh\\.com)?|poly1305": "UMAC",
    "argon2(i|d|id)?|bcrypt|scrypt|yescrypt": "password hash",
    "ssh-dss|dsa|brainpoolp\\w+|secp256k1|secp(160|192)\\w+|sect\\w+": "curve or DSA",
    "diffie-hellman-group1-sha1|diffie-hellman-group14-sha1|modp(768|1024|1536)": "short key exchange",
    "sslv[23]|tlsv?1(\\.[01]|_1)?": "old TLS",
}
_PATTERNS: Final = {
    name: re.compile(rf"(?<![A-Za-z0-9])({pattern})(?![A-Za-z0-9\\]|\.\d)", re.IGNORECASE)
    for pattern, name in _NAMES.items()
}
_WORDS: Final = re.compile(r"[^\s:,;=\"'()\[\]{}|+]+")


def algorithms_in(text: str) -> list[tuple[str, str]]:
    """Return the class and the name of each algorithm in a text that is not approved, and not excluded by ! or -."""
    words = (
        word for word in _WORDS.findall(text) if word[0] not in "!-" or (word[0] == "-" and "openssl" in text)
    )
    return [
        (name, match[0])
        for word in words
        for name, pattern in _PATTERNS.items()
        for match in pattern.finditer(word)
    ]
