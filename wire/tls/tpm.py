"""Private keys in a TPM 2.0: made there, and used for signatures and by TLS without ever leaving it.

A key is a file "TSS2 PRIVATE KEY": its private part is encrypted by the TPM, and useless elsewhere. The TPM is used
by the program `openssl` with the provider `tpm2` (tpm2-openssl), a process for each operation. The provider is not
loaded into this process: OpenSSL would then compute hashes and verify peers in the TPM too, or sign without the
private key; in FIPS mode it would not use the provider at all.

For TLS, OpenSSL gets a key with a method of its own for signatures (EC_KEY_METHOD_new(3)). Everything else in TLS is
done by the cryptographic module of this process, in FIPS mode by its FIPS provider. The TPM makes the signature; its
validation is the manufacturer's responsibility.
"""

from __future__ import annotations

import ctypes
import os
import ssl
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wire.tls.external_key import ExternalKey
from wire.tls.session import openssl

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

HEADER: Final = b"-----BEGIN TSS2 PRIVATE KEY-----"
COMMAND_SECONDS_MAX: Final = 30.0
"""A TPM needs up to a few seconds to make a key, and a few tenths of a second for a signature."""
# "-fips": in FIPS mode, OpenSSL offers only algorithms of the FIPS provider otherwise
_PROVIDERS: Final = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2,-fips")
_SignCallback: Final = ctypes.CFUNCTYPE(
    ctypes.c_int,
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint)),
    *(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
)
"""The function `sign` of an EC_KEY_METHOD: type, digest, its length, signature, its length, kinv, r, key."""


class TpmError(OSError):
    """The TPM, or the key in it, cannot be used; the message says why."""


class TpmKey(ExternalKey):
    """A P-256 key in the TPM; it can only sign. `pem` is its file, because `private_bytes` is not supported."""

    location = "the TPM"

    def __init__(self, pem: bytes) -> None:
        """`pem` is the content of its file. Raises: TpmError if it is no key of this TPM."""
        self.pem = pem
        public = serialization.load_pem_public_key(_run(("pkey", "-pubout", "-in", "/dev/stdin"), pem))
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise TpmError("the key in the TPM is not of curve P-256")
        super().__init__(public)

    @classmethod
    def make(cls) -> TpmKey:
        """Make a key in the TPM. Raises: TpmError."""
        return cls(_run(("genpkey", "-algorithm", "EC", "-pkeyopt", "group:P-256"), b""))

    def sign_hash(self, digest: bytes) -> bytes:
        """Return the signature (DER) of a hash. Raises: TpmError."""
        key = os.memfd_create("tpm-key")
        try:
            os.write(key, self.pem)
            return _run(("pkeyutl", "-sign", "-inkey", f"/dev/fd/{key}"), digest, (key,))
        finally:
            os.close(key)


def is_tpm_key(pem: bytes) -> bool:
    """Return whether the content of a key file is a key in a TPM."""
    return pem.lstrip().startswith(HEADER)


def load_key(pem: bytes) -> PrivateKeyTypes:
    """Load an unencrypted private key (PEM), or one in the TPM.

    Raises: TpmError; as `load_pem_private_key`: ValueError, TypeError, UnsupportedAlgorithm.
    """
    return load_tpm_key(pem) if is_tpm_key(pem) else serialization.load_pem_private_key(pem, None)


@cache
def load_tpm_key(pem: bytes) -> TpmKey:
    """Load a key in the TPM, once. Raises: TpmError if it is no key of this TPM."""
    return TpmKey(pem)


def use_tpm_key(context: ssl.SSLContext, certificate: Path, key: TpmKey) -> None:
    """Let a context authenticate itself with a certificate (PEM, with its chain) and its key in the TPM.

    Raises: OSError; ssl.SSLError if they do not match.
    """
    library = _library()
    certificate.read_bytes()  # OpenSSL's error would not name the file
    # the first member of a PySSLContext, after the object header
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    if library.SSL_CTX_get_options(pointer) & 0xFFFFFFFF != context.options & 0xFFFFFFFF:
        raise RuntimeError("this version of Python has another layout of ssl.SSLContext")
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    position = ctypes.cast(ctypes.create_string_buffer(der), ctypes.c_void_p)
    curve_key = library.d2i_EC_PUBKEY(None, ctypes.byref(position), len(der))
    pair = library.EVP_PKEY_new()
    signer = _signer(key)
    try:
        is_used = (
            library.EC_KEY_set_method(curve_key, signer.method) == 1
            and library.EVP_PKEY_set1_EC_KEY(pair, curve_key) == 1
            and library.SSL_CTX_use_certificate_chain_file(pointer, bytes(certificate)) == 1
            and library.SSL_CTX_use_PrivateKey(pointer, pair) == 1
        )
    finally:
        library.EVP_PKEY_free(pair)
        library.EC_KEY_free(curve_key)
        library.ERR_clear_error()
    if not is_used:
        raise ssl.SSLError(f"{certificate}: is not a certificate for the key in the TPM")


class _Signer:
    """A method of EC keys that signs in the TPM."""

    def __init__(self, key: TpmKey) -> None:
        library = _library()
        self._key = key
        self._callback = _SignCallback(self._sign)  # referenced here because OpenSSL stores its address
        self.method = library.EC_KEY_METHOD_new(library.EC_KEY_OpenSSL())
        library.EC_KEY_METHOD_set_sign(self.method, self._callback, None, None)

    def _sign(
        self, _type: int, digest: int, size: int, signature: int, length: Any, *_precomputed: object
    ) -> int:
        try:
            signed = self._key.sign_hash(ctypes.string_at(digest, size))
        except TpmError:
            return 0  # the handshake fails
        ctypes.memmove(signature, signed, len(signed))
        length[0] = len(signed)
        return 1


@cache
def _signer(key: TpmKey) -> _Signer:
    """Return the method of a key; it is kept, since OpenSSL has its address while connections exist."""
    return _Signer(key)


@cache
def _library() -> ctypes.CDLL:
    """Return OpenSSL with the types of the functions that are used here."""
    library, pointer = openssl(), ctypes.c_void_p
    signatures: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("EC_KEY_OpenSSL", pointer, ()),
        ("EC_KEY_METHOD_new", pointer, (pointer,)),
        ("EC_KEY_METHOD_set_sign", None, (pointer, _SignCallback, pointer, pointer)),
        ("EC_KEY_set_method", ctypes.c_int, (pointer, pointer)),
        ("EC_KEY_free", None, (pointer,)),
        ("d2i_EC_PUBKEY", pointer, (pointer, ctypes.POINTER(pointer), ctypes.c_long)),
        ("EVP_PKEY_new", pointer, ()),
        ("EVP_PKEY_set1_EC_KEY", ctypes.c_int, (pointer, pointer)),
        ("EVP_PKEY_free", None, (pointer,)),
        ("SSL_CTX_get_options", ctypes.c_uint64, (pointer,)),
        ("SSL_CTX_use_certificate_chain_file", ctypes.c_int, (pointer, ctypes.c_char_p)),
        ("SSL_CTX_use_PrivateKey", ctypes.c_int, (pointer, pointer)),
        ("ERR_clear_error", None, ()),
    )
    for name, result, arguments in signatures:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _run(arguments: Sequence[str], stdin: bytes, descriptors: Sequence[int] = ()) -> bytes:
    """Run `openssl` with the TPM's provider and this standard input; return its output. Raises: TpmError."""
    command = ("openssl", arguments[0], *_PROVIDERS, *arguments[1:])
    try:
        process = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            check=True,
            timeout=COMMAND_SECONDS_MAX,
            pass_fds=descriptors,
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise TpmError(f"the TPM cannot be used: {lines[-1] if lines else 'openssl failed'}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TpmError(f"the TPM cannot be used: {error}") from None
    return process.stdout
