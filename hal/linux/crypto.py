"""`hal.crypto` on Linux: the kernel's FIPS mode, and OpenSSL's FIPS provider, queried through ctypes.

OpenSSL reads its configuration when it is loaded, so the result applies to this process only. The library is found
through Python's own modules: an address of a function shows which OpenSSL a module uses.

Not checked: that Ed25519 is refused. FIPS 186-5 approves it, the provider of OpenSSL 3.0 offers it, and RHEL 9 does
not; `wire/tls/openssl.cnf` and `rap trust algorithms` exclude it from this project.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from hal.crypto import FipsCheck, SelfTest

KERNEL_FLAG: Final = Path("/proc/sys/crypto/fips_enabled")
HASHES: Final = ("sha224", "sha256", "sha384", "sha512")
"""The constructors of hashlib that the box uses. Python has each built in, and falls back to it without a message."""
USED: Final = (
    *(("EVP_MD", name) for name in ("SHA2-256", "SHA2-384", "SHA2-512")),
    *(("EVP_CIPHER", name) for name in ("AES-128-GCM", "AES-256-GCM")),
    ("EVP_MAC", "HMAC"),
    ("EVP_KDF", "HKDF"),
    ("EVP_SIGNATURE", "ECDSA"),
    ("EVP_SIGNATURE", "RSA"),
    ("EVP_KEYEXCH", "ECDH"),
    ("EVP_RAND", "CTR-DRBG"),
)
"""Algorithms that the box fetches from OpenSSL for TLS, hashes and signatures: (kind, name)."""
REFUSED: Final = (
    *(("EVP_MD", name) for name in ("MD5", "RIPEMD-160", "BLAKE2B-512")),
    *(("EVP_CIPHER", name) for name in ("ChaCha20-Poly1305", "RC4")),
    ("EVP_KDF", "SCRYPT"),
)
"""Algorithms that no FIPS provider approves."""


class LinuxCryptographicModule:
    """The cryptographic module of this process."""

    def __init__(self, kernel_flag: Path = KERNEL_FLAG) -> None:
        self._kernel_flag = kernel_flag

    def self_test(self) -> SelfTest:
        """See `CryptographicModule.self_test`."""
        module = _result(_module_name)
        checks: dict[FipsCheck, Callable[[], str]] = {
            FipsCheck.KERNEL: self._kernel,
            FipsCheck.PROVIDER: _provider,
            FipsCheck.DEFAULT: _default,
            FipsCheck.REFUSALS: _refusals,
            FipsCheck.PYTHON: _python,
            FipsCheck.CRYPTOGRAPHY: _cryptography,
            FipsCheck.ANSWERS: _answers,
        }
        reasons = {check: _result(run) for check, run in checks.items()}
        is_loaded = not reasons[FipsCheck.PROVIDER]
        return SelfTest(
            module if is_loaded else "", {check: reason for check, reason in reasons.items() if reason}
        )

    def _kernel(self) -> str:
        try:
            value = self._kernel_flag.read_text("ascii").strip()
        except FileNotFoundError:
            return (
                f"the kernel has no FIPS mode ({self._kernel_flag} does not exist); use a kernel that has one"
            )
        return "" if value == "1" else "the kernel is not in FIPS mode; start it with fips=1"


def _result(run: Callable[[], str]) -> str:
    """Return the result of a check, or the error that it raises, and empty OpenSSL's error queue."""
    try:
        return run()
    except Exception as error:
        return f"cannot be checked: {type(error).__name__}: {error}"
    finally:
        with suppress(Exception):  # OpenSSL itself may be missing
            _openssl().ERR_clear_error()


def _openssl() -> ctypes.CDLL:
    """Return the OpenSSL that hashlib uses."""
    return library_of("_hashlib")


def library_of(module: str) -> ctypes.CDLL:
    """Return a library through which a module's OpenSSL is reached; a static interpreter contains the module."""
    return ctypes.CDLL(getattr(import_module(module), "__file__", None))


def _address(library: ctypes.CDLL) -> int | None:
    """Return the address of OpenSSL's EVP_MD_fetch for this library; None if it neither exports nor imports it."""
    try:
        return ctypes.cast(library.EVP_MD_fetch, ctypes.c_void_p).value
    except AttributeError:
        return None


def _call(name: str, *arguments: object) -> int | None:
    """Call a function of OpenSSL that returns a pointer or a status; a null pointer is None."""
    function = getattr(_openssl(), name)
    function.restype = ctypes.c_void_p
    function.argtypes = [
        ctypes.c_char_p if isinstance(argument, bytes) else ctypes.c_void_p for argument in arguments
    ]
    result: int | None = function(*arguments)
    return result


def _status(name: str, *arguments: object) -> bool:
    """Call a function of OpenSSL that returns an int; return whether it is 1."""
    function = getattr(_openssl(), name)
    function.restype = ctypes.c_int
    function.argtypes = [
        ctypes.c_char_p if isinstance(argument, bytes) else ctypes.c_void_p for argument in arguments
    ]
    return bool(function(*arguments) == 1)


@contextmanager
def _provider_offering(kind: str, algorithm: bytes, query: bytes | None) -> Iterator[int | None]:
    """Yield the provider from which OpenSSL fetches an algorithm by a property query; None if it refuses."""
    method = _call(f"{kind}_fetch", None, algorithm, query)
    try:
        yield _call(f"{kind}_get0_provider", method) if method is not None else None
    finally:
        if method is not None:
            _call(f"{kind}_free", method)


def _provider_of(kind: str, algorithm: str) -> str:
    """Return the name of the provider from which OpenSSL fetches an algorithm by default; empty if it refuses."""
    with _provider_offering(kind, algorithm.encode(), None) as provider:
        return "" if provider is None else _text(_call("OSSL_PROVIDER_get0_name", provider))


class _Parameter(ctypes.Structure):
    """OSSL_PARAM(3)."""

    _fields_ = (
        ("key", ctypes.c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", ctypes.c_void_p),
        ("data_size", ctypes.c_size_t),
        ("return_size", ctypes.c_size_t),
    )


_FIPS_SHA256: Final = ("EVP_MD", b"SHA2-256", b"provider=fips")
_UTF8_POINTER: Final = 6
"""OSSL_PARAM_UTF8_PTR."""


def _module_name() -> str:
    if not _status("OSSL_PROVIDER_available", None, b"fips"):
        return ""
    with _provider_offering(*_FIPS_SHA256) as provider:
        if provider is None:
            return ""
        return " ".join(_parameter(provider, key) for key in (b"name", b"version"))


def _parameter(provider: int, key: bytes) -> str:
    value = ctypes.c_char_p()
    parameters = (_Parameter * 2)()
    parameters[0] = _Parameter(key, _UTF8_POINTER, ctypes.addressof(value), 0, 0)
    if not _status("OSSL_PROVIDER_get_params", provider, ctypes.addressof(parameters)):
        return "?"
    return (value.value or b"?").decode("utf-8", "replace")


def _text(pointer: int | None) -> str:
    return ctypes.string_at(pointer).decode("utf-8", "replace") if pointer else ""


def _provider() -> str:
    if not hasattr(_openssl(), "OSSL_PROVIDER_available"):
        return f"{ssl.OPENSSL_VERSION} has no providers; use OpenSSL 3.0 or later"
    if not _status("OSSL_PROVIDER_available", None, b"fips"):
        return "OpenSSL has not loaded the FIPS provider: it is missing, damaged, or not in openssl.cnf"
    with _provider_offering(*_FIPS_SHA256) as provider:
        if provider is None:
            return "the FIPS provider has loaded, but offers no SHA-256"
        if not _status("OSSL_PROVIDER_self_test", provider):
            return "the FIPS provider fails its own self-test; install its package again"
    return ""


def _default() -> str:
    if not _status("EVP_default_properties_is_fips_enabled", None):
        return "OpenSSL's default property query is not fips=yes; set default_properties in openssl.cnf"
    others = [
        f"{name} from {provider or 'no provider'}"
        for kind, name in USED
        if (provider := _provider_of(kind, name)) != "fips"
    ]
    return f"OpenSSL fetches {', '.join(others)}; all must come from the FIPS provider" if others else ""


def _refusals() -> str:
    offered = [f"{name} from {provider}" for kind, name in REFUSED if (provider := _provider_of(kind, name))]
    return f"OpenSSL offers {', '.join(offered)}, which FIPS 140-3 does not approve" if offered else ""


def _python() -> str:
    if _address(library_of("_ssl")) != _address(_openssl()) or _address(_openssl()) is None:
        return "Python's ssl and hashlib use different builds of OpenSSL; use the distribution's Python"
    own = import_module("_hashlib")
    built_in = [
        name for name in HASHES if getattr(hashlib, name) is not getattr(own, f"openssl_{name}", None)
    ]
    if built_in:
        return f"Python uses its built-in {', '.join(built_in)}, because OpenSSL refused them at the start"
    suites = [suite["name"] for suite in ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).get_ciphers()]
    refused = [name for name in suites if "CHACHA" in name]
    return f"TLS would offer {', '.join(refused) or 'no suite'}" if refused or not suites else ""


def _cryptography() -> str:
    package = import_module("cryptography")
    modules = sorted(Path(str(package.__file__)).parent.glob("hazmat/bindings/*.so"))
    if any(_address(ctypes.CDLL(str(module))) == _address(_openssl()) for module in modules):
        return ""
    return f"cryptography {package.__version__} bundles OpenSSL; install the distribution's package"


def _answers() -> str:
    wrong = [name for name, passes in _KNOWN if not passes()]
    return f"wrong results of {', '.join(wrong)}" if wrong else ""


def _hash_answers() -> bool:
    """Return whether the digests of "abc" are correct (FIPS 180-4)."""
    return (
        hashlib.sha256(b"abc").hexdigest()
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        and hashlib.sha384(b"abc").hexdigest()
        == "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
    )


def _hmac_answers() -> bool:
    """Return whether the HMAC of a test case is correct (RFC 4231, 4.3)."""
    digest = hmac.digest(b"Jefe", b"what do ya want for nothing?", "sha256").hex()
    return digest == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


def _gcm_answers() -> bool:
    """Return whether test case 3 of the specification of GCM (McGrew and Viega) passes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, nonce = bytes.fromhex("feffe9928665731c6d6a8f9467308308"), bytes.fromhex("cafebabefacedbaddecaf888")
    text = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
    )
    sealed = AESGCM(key).encrypt(nonce, text, None)
    return sealed[-16:].hex() == "4d5c2af327cd64a62cf35abd2ba6fab4" and sealed[:4].hex() == "42831ec2"


def _ecdsa_answers() -> bool:
    """Return whether a signature of "sample" is accepted, and refused for another text (RFC 6979, A.2.5)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    x = 0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6
    y = 0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299
    r = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    s = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    key.verify(encode_dss_signature(r, s), b"sample", ec.ECDSA(SHA256()))
    try:
        key.verify(encode_dss_signature(r, s), b"simple", ec.ECDSA(SHA256()))
    except InvalidSignature:
        return True
    return False


_KNOWN: Final = (
    ("SHA-2", _hash_answers),
    ("HMAC", _hmac_answers),
    ("AES-GCM", _gcm_answers),
    ("ECDSA", _ecdsa_answers),
)
