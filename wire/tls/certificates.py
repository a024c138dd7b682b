"""Exceptions that reading a certificate can raise: those of the library cryptography have no common base class.

A certificate of a peer, a data center or an intercepting proxy can have any content.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

CERTIFICATE_ERRORS: Final = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)
"""Errors of loading a certificate, a request or a revocation list, and of reading its key."""
EXTENSION_ERRORS: Final = (
    ValueError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""Errors of reading an extension, including a missing one."""
