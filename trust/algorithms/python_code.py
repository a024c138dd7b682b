"""Algorithms in Python code: hashes of Python's own, cryptographic libraries, ciphers and versions of TLS."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

from trust.algorithms.finding import Finding, algorithms_in

_HASHES: Final = {"md5", "sha1", "blake2b", "blake2s"}
_LIBRARIES: Final = {
    *("Crypto", "Cryptodome", "nacl", "bcrypt", "passlib", "argon2", "ecdsa", "rsa", "blake3", "xxhash"),
    *("M2Crypto", "gnupg", "oscrypto", "pyaes", "crypt"),
}
"""Modules with cryptography of their own, which no validated module performs."""
_CRYPTOGRAPHY: Final = {
    *("ed25519", "ed448", "x25519", "x448", "dsa", "scrypt", "argon2"),
    *("MD5", "SHA1", "BLAKE2b", "BLAKE2s", "SM3", "Scrypt", "Argon2id", "ChaCha20", "ChaCha20Poly1305"),
    *("ARC4", "Blowfish", "CAST5", "IDEA", "SEED", "SM4", "TripleDES", "Camellia", "RC2", "Poly1305"),
    *(
        "SECP256K1",
        "BrainpoolP256R1",
        "BrainpoolP384R1",
        "BrainpoolP512R1",
        "SECP192R1",
        "PKCS1v15Encryption",
    ),
}
"""Names below `cryptography.hazmat`."""
_VERSIONS: Final = {
    "PROTOCOL_SSLv3",
    "PROTOCOL_SSLv23",
    "PROTOCOL_TLSv1",
    "PROTOCOL_TLSv1_1",
    "SSLv3",
    "TLSv1",
    "TLSv1_1",
}
_CHOOSERS: Final = {"set_ciphers", "set_ecdh_curve", "set_ciphersuites"}
"""Functions whose texts are names of algorithms."""

_RELEVANT: Final = re.compile(
    "|".join(["hashlib", "hmac", "cryptography", "ssl", *sorted({*_CHOOSERS, *_LIBRARIES})])
)
"""Files without any of these words are not parsed."""


def scan_python(file: str, text: str) -> Iterator[Finding]:
    """Yield the algorithms in a Python file. Raises: SyntaxError."""
    if not _RELEVANT.search(text):
        return
    for node in ast.walk(ast.parse(text)):
        for algorithm, what in _findings(node):
            yield Finding(file, getattr(node, "lineno", 0), algorithm, what)


def _findings(node: ast.AST) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Import(names):
            for alias in names:
                if alias.name.partition(".")[0] in _LIBRARIES:
                    yield "library", f"{alias.name} has cryptography of its own"
        case ast.ImportFrom(module=str(module), names=names):
            yield from _imported(module, [alias.name for alias in names])
        case ast.Call(func=ast.Attribute(value=ast.Name("hashlib"), attr=name)) if name in _HASHES:
            if not _is_not_for_security(node):
                yield name, f"hashlib.{name}, which Python has built in, also in FIPS mode"
        case ast.Call(func=ast.Attribute(value=ast.Name("hashlib"), attr="new"), args=[first, *_]):
            if not _is_not_for_security(node):
                yield from _named("hashlib.new", first)
        case ast.Call(func=ast.Attribute(value=ast.Name("hashlib"), attr="scrypt")):
            yield "password hash", "hashlib.scrypt"
        case ast.Call(
            func=ast.Attribute(value=ast.Name("hmac"), attr=("new" | "digest") as name), args=arguments
        ):
            for argument in [*arguments[1:], *(one.value for one in node.keywords)]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield from _named(f"hmac.{name}", argument)
        case ast.Call(func=ast.Attribute(attr=name), args=arguments) if name in _CHOOSERS:
            for argument in arguments:
                yield from _named(name, argument)
        case ast.Attribute(attr=name) if name in _VERSIONS:
            yield "old TLS", name
        case ast.Attribute(value=ast.Name("hashes" | "algorithms" | "ec"), attr=name) if (
            name in _CRYPTOGRAPHY
        ):
            yield name, f"{name} of cryptography"


def _imported(module: str, names: list[str]) -> Iterator[tuple[str, str]]:
    if module.partition(".")[0] in _LIBRARIES:
        yield "library", f"{module} has cryptography of its own"
    elif module == "hashlib":
        for name in names:
            if name in _HASHES or name == "scrypt":
                yield name, f"hashlib.{name}, which Python has built in, also in FIPS mode"
    elif module.startswith("cryptography."):
        for name in {module.rpartition(".")[2], *names} & _CRYPTOGRAPHY:
            yield name, f"{name} of {module}"


def _named(function: str, argument: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield what a text names; a value that is only known at run time is a finding of its own."""
    if not isinstance(argument, ast.Constant):
        yield "unknown", f"{function} with an algorithm that is chosen at run time"
    elif isinstance(argument.value, str):
        for algorithm, name in algorithms_in(argument.value):
            yield algorithm, f"{function}: {name}"
        if argument.value.lower() in ("sha1", "sha-1") and function == "hashlib.new":
            yield "sha1", f"{function}: {argument.value}"


def _is_not_for_security(call: ast.Call) -> bool:
    return any(
        one.arg == "usedforsecurity" and isinstance(one.value, ast.Constant) and one.value.value is False
        for one in call.keywords
    )
