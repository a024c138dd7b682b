"""Algorithms in Python code: Python's built-in hashes, cryptographic libraries, ciphers and versions of TLS."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from trust.algorithms.finding import AlgorithmFinding, algorithms_in

_HASHES: Final = {"md5", "sha1", "blake2b", "blake2s"}
_NAMED_BY_TEXT: Final = {"new": 0, "pbkdf2_hmac": 0, "file_digest": 1}
"""Functions of hashlib, and the position of the argument that names the hash."""
_UUIDS: Final = {"uuid3": "MD5", "uuid5": "SHA-1"}
_SECRET: Final = re.compile(
    r"(^|_)(key|secret|token|nonce|salt|password|passphrase|challenge|seed|cookie|iv|pin|otp)s?($|_)",
    re.IGNORECASE,
)
"""Names of values that must be unpredictable."""
_GENERATORS: Final = {
    *("random", "randbytes", "getrandbits", "randint", "randrange", "choice", "choices", "sample", "uniform"),
    "Random",
}
"""Functions of the module random, whose numbers are predictable from a few outputs."""
_PROGRAMS: Final = {"openssl", "ssh-keygen", "gpg", "certtool", "wg", "update-crypto-policies"}
"""Programs whose arguments name algorithms."""
RSA_BITS_MIN: Final = 2048
_LIBRARIES: Final = {
    *("Crypto", "Cryptodome", "nacl", "bcrypt", "passlib", "argon2", "ecdsa", "rsa", "blake3", "xxhash"),
    *("M2Crypto", "gnupg", "oscrypto", "pyaes", "crypt"),
}
"""Modules with their own cryptography, which is not part of a validated module."""
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
    "MINIMUM_SUPPORTED",
    "PROTOCOL_SSLv3",
    "PROTOCOL_SSLv23",
    "PROTOCOL_TLSv1",
    "PROTOCOL_TLSv1_1",
    "SSLv3",
    "TLSv1",
    "TLSv1_1",
}
_CHOOSERS: Final = {"set_ciphers", "set_ecdh_curve", "set_ciphersuites"}
"""Functions whose string arguments name algorithms."""

_RELEVANT: Final = re.compile(
    "|".join(
        [
            "hashlib",
            "hmac",
            "cryptography",
            "ssl",
            "uuid",
            "random",
            *sorted({*_CHOOSERS, *_LIBRARIES, *_PROGRAMS}),
        ]
    )
)
"""Words of which a file must contain one to be parsed."""


def scan_python(file: str, text: str) -> Iterator[AlgorithmFinding]:
    """Yield the algorithms in a Python file. Raises: SyntaxError."""
    if not _RELEVANT.search(text):
        return
    tree = ast.parse(text)
    modules = _modules(tree)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        for algorithm, problem in _findings(node, modules, id(node) in called):
            yield AlgorithmFinding(file, getattr(node, "lineno", 0), algorithm, problem)


def _modules(tree: ast.Module) -> dict[str, str]:
    """Return the modules that are imported under other names, such as "h" for "hashlib"."""
    return {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname
    }


def _findings(node: ast.AST, modules: Mapping[str, str], is_called: bool) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Import(names):
            for alias in names:
                if alias.name.partition(".")[0] in _LIBRARIES:
                    yield "library", f"{alias.name} has its own cryptography"
        case ast.ImportFrom(module=str(module), names=names):
            yield from _imported(module, [alias.name for alias in names])
        case ast.Call():
            yield from _called(node, modules)
        case ast.Attribute(attr=name) if name in _VERSIONS:
            yield "old TLS", name
        case ast.Attribute(value=ast.Name(module), attr=name):
            yield from _referenced(modules.get(module, module), name, is_called)
        case ast.Assign(targets=targets, value=value) if _is_predictable(value):
            yield from (_predictable(name) for target in targets if (name := _secret_name(target)))
        case ast.AnnAssign(target=target, value=value) if value and _is_predictable(value):
            yield from (_predictable(name) for name in [_secret_name(target)] if name)
        case ast.keyword(arg=str(name), value=value) if _SECRET.search(name) and _is_predictable(value):
            yield _predictable(name)
        case ast.FunctionDef(name=name, body=body) if _SECRET.search(name):
            returned = [
                inner.value for part in body for inner in ast.walk(part) if isinstance(inner, ast.Return)
            ]
            if any(value is not None and _is_predictable(value) for value in returned):
                yield _predictable(name)
        case (
            ast.List(elts=[ast.Constant(str(program)), *rest])
            | ast.Tuple(elts=[ast.Constant(str(program)), *rest])
        ) if program.rpartition("/")[2] in _PROGRAMS:
            words = [
                word.value for word in rest if isinstance(word, ast.Constant) and isinstance(word.value, str)
            ]
            for algorithm, name in algorithms_in(" ".join([program, *words])):
                yield algorithm, f"{program}: {name}"


def _called(call: ast.Call, modules: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    match call.func:
        case ast.Attribute(value=ast.Name(module), attr=name):
            yield from _called_of_module(modules.get(module, module), name, call.args, values)
        case ast.Attribute(attr=name) if name in _CHOOSERS:
            for argument in call.args:
                yield from _named(name, argument)
        case ast.Name("getattr") if call.args and isinstance(module_name := call.args[0], ast.Name):
            if modules.get(module_name.id, module_name.id) == "hashlib":
                yield "unknown", "getattr(hashlib, …) with a hash that is chosen at run time"


def _called_of_module(
    module: str, name: str, arguments: Sequence[ast.expr], values: Mapping[str | None, ast.expr]
) -> Iterator[tuple[str, str]]:
    is_for_security = not _is_false(values.get("usedforsecurity"))
    match module, name:
        case "hashlib", _ if name in _HASHES and is_for_security:
            yield name, f"hashlib.{name}, which Python has built in, also in FIPS mode"
        case "hashlib", _ if (position := _NAMED_BY_TEXT.get(name)) is not None and is_for_security:
            keyword = {"new": "name", "pbkdf2_hmac": "hash_name", "file_digest": "digest"}[name]
            for argument in [*arguments[position : position + 1], *filter(None, [values.get(keyword)])]:
                yield from _named(f"hashlib.{name}", argument)
        case "hashlib", "scrypt":
            yield "password hash", "hashlib.scrypt"
        case "hmac", "new" | "digest" | "HMAC":
            chosen = [*arguments[2:3], *filter(None, [values.get("digestmod"), values.get("digest")])]
            for argument in chosen:
                yield from _named(f"hmac.{name}", argument)
        case "rsa", "generate_private_key":
            for size in [*arguments[1:2], *filter(None, [values.get("key_size")])]:
                if (
                    isinstance(size, ast.Constant)
                    and isinstance(size.value, int)
                    and size.value < RSA_BITS_MIN
                ):
                    yield "short key", f"RSA key of {size.value} bits"
        case _, _ if name in _CHOOSERS:
            for argument in arguments:
                yield from _named(name, argument)


def _referenced(module: str, name: str, is_called: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the algorithm `module.name`, whether it is called or referenced; `_called` examines calls of hashlib."""
    if module == "hashlib" and name in _HASHES and not is_called:
        yield name, f"hashlib.{name}, which Python has built in, also in FIPS mode"
    elif module == "uuid" and name in _UUIDS:
        yield _UUIDS[name].lower().replace("-", ""), f"uuid.{name} is a hash of {_UUIDS[name]}"
    elif module == "PrivateFormat" and name == "OpenSSH":
        yield "password hash", "OpenSSH's own format of keys, whose encryption (bcrypt) is not approved"
    elif module in ("hashes", "algorithms", "ec") and name in _CRYPTOGRAPHY:
        yield name, f"{name} of cryptography"


def _secret_name(target: ast.expr) -> str:
    name = (
        target.attr
        if isinstance(target, ast.Attribute)
        else target.id
        if isinstance(target, ast.Name)
        else ""
    )
    return name if _SECRET.search(name) else ""


def _predictable(name: str) -> tuple[str, str]:
    return (
        "random",
        f"{name} from the module random, whose numbers are predictable; use secrets or os.urandom",
    )


def _is_predictable(value: ast.expr) -> bool:
    """Return whether a value is from the module random."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "random"
        and node.func.attr in _GENERATORS
        for node in ast.walk(value)
    )


def _imported(module: str, names: list[str]) -> Iterator[tuple[str, str]]:
    if module.partition(".")[0] in _LIBRARIES:
        yield "library", f"{module} has its own cryptography"
    elif module == "hashlib":
        for name in names:
            if name in _HASHES or name == "scrypt":
                yield name, f"hashlib.{name}, which Python has built in, also in FIPS mode"
    elif module == "uuid":
        for name in names:
            yield from _referenced(module, name)
    elif module.startswith("cryptography."):
        for name in {module.rpartition(".")[2], *names} & _CRYPTOGRAPHY:
            yield name, f"{name} of {module}"


def _named(function: str, argument: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield the algorithms that a string names; a value that is only known at run time is a separate finding."""
    match argument:
        case ast.Attribute(value=ast.Name(), attr=name) | ast.Name(name):
            if name in _HASHES - {"sha1"}:
                yield name, f"{function}: {name}"
            elif not name.startswith("sha"):
                yield "unknown", f"{function} with an algorithm that is chosen at run time"
        case ast.Constant(str(text)):
            for algorithm, name in algorithms_in(text):
                yield algorithm, f"{function}: {name}"
            if text.lower() in ("sha1", "sha-1") and function in ("hashlib.new", "hashlib.file_digest"):
                yield "sha1", f"{function}: {text}"
        case ast.Lambda() | ast.Constant():
            pass
        case _:
            yield "unknown", f"{function} with an algorithm that is chosen at run time"


def _is_false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False
