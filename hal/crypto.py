"""Cryptographic module: the implementation of FIPS 140-3 algorithms that programs on this machine use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class FipsCheck(StrEnum):
    """The checks of a self-test, in the order in which they run."""

    KERNEL = "kernel"
    """The kernel runs in FIPS mode."""
    PROVIDER = "provider"
    """OpenSSL has loaded its FIPS provider, which passes its own self-test."""
    DEFAULT = "default"
    """Programs that request an algorithm from OpenSSL get the implementation of the FIPS provider."""
    REFUSALS = "refusals"
    """OpenSSL refuses algorithms that are not approved."""
    PYTHON = "python"
    """Python's hashes, HMAC and TLS come from this OpenSSL, and are not built in."""
    CRYPTOGRAPHY = "cryptography"
    """The package cryptography uses this OpenSSL, not a bundled one."""
    ANSWERS = "answers"
    """Known-answer tests: hashes, HMAC, AES-GCM and ECDSA give the published results."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The result of a self-test."""

    module: str
    """Name and version of the FIPS provider; empty if none is loaded."""
    failed: Mapping[FipsCheck, str]
    """Why each of these checks failed, for an operator; empty: FIPS mode is in force."""

    @property
    def is_passed(self) -> bool:
        """Whether FIPS mode is in force."""
        return not self.failed


class CryptographicModule(Protocol):
    """The cryptographic module of this process."""

    def self_test(self) -> SelfTest:
        """Run all checks, and return their result.

        It takes a few milliseconds and changes nothing. It never raises: a check that cannot be run has failed.
        """
        ...
