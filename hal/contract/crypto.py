"""Conformance checks of `hal.crypto`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hal.crypto import CryptographicModule, FipsCheck


class CryptographicModuleBench(Protocol):
    """Cryptographic modules in known states."""

    def sound(self) -> CryptographicModule:
        """Return a module that is in force."""
        ...

    def without_kernel(self) -> CryptographicModule:
        """Return a module on a kernel that is not in FIPS mode."""
        ...

    def without_provider(self) -> CryptographicModule:
        """Return a module whose FIPS provider cannot be loaded."""
        ...


def sound_module_passes(bench: CryptographicModuleBench) -> None:
    """A module that is in force passes, and names itself."""
    result = bench.sound().self_test()
    assert result.is_passed, result.failed
    assert result.module


def kernel_is_needed(bench: CryptographicModuleBench) -> None:
    """The kernel by itself can prevent FIPS mode, and the reason says so."""
    result = bench.without_kernel().self_test()
    assert list(result.failed) == [FipsCheck.KERNEL]
    assert "kernel" in result.failed[FipsCheck.KERNEL]
    assert result.module


def provider_is_needed(bench: CryptographicModuleBench) -> None:
    """Without a provider, that check fails, and the result names no module."""
    result = bench.without_provider().self_test()
    assert FipsCheck.PROVIDER in result.failed
    assert FipsCheck.KERNEL not in result.failed
    assert not result.module
    assert all(result.failed.values())


def self_test_repeats(bench: CryptographicModuleBench) -> None:
    """A repeated self-test has the same result."""
    for module in (bench.sound(), bench.without_provider()):
        assert module.self_test() == module.self_test()


CRYPTO_CHECKS: tuple[Callable[[CryptographicModuleBench], None], ...] = (
    sound_module_passes,
    kernel_is_needed,
    provider_is_needed,
    self_test_repeats,
)
