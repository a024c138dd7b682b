"""What reading a certificate can raise: cryptography has errors for single faults that have no common base.

A certificate of a peer, a data center or an intercepting proxy can have any content.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

CERTIFICATE_ERRORS: Final = (ValueError, UnsupportedAlgorithm, x509.InvalidVersion)
"""Of loading a certificate, a request or a list, and of reading its key."""
EXTENSION_ERRORS: Final = (
    ValueError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""Of reading an extension, also if there is none of that kind."""
