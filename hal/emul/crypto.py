"""A cryptographic module in which injected checks fail."""

from __future__ import annotations

from typing import Final

from hal.crypto import FipsCheck, SelfTest

MODULE: Final = "emulated FIPS provider 1.0"


class EmulCryptographicModuleBackend:
    """Control of an emulated cryptographic module. For the simulator and for tests."""

    def __init__(self) -> None:
        self.failed: dict[FipsCheck, str] = {}
        """The checks that fail from now on, with reasons."""


class EmulCryptographicModule:
    """`hal.crypto.CryptographicModule` that passes, except for the checks in `backend.failed`."""

    def __init__(self) -> None:
        self.backend = EmulCryptographicModuleBackend()

    def self_test(self) -> SelfTest:
        """See `CryptographicModule.self_test`."""
        failed = {check: self.backend.failed[check] for check in FipsCheck if check in self.backend.failed}
        return SelfTest("" if FipsCheck.PROVIDER in failed else MODULE, failed)
