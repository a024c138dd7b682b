"""The emulated cryptographic module passes the conformance suite; the Linux one reports each check that fails."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from hal.contract.crypto import CRYPTO_CHECKS, CryptographicModuleBench
from hal.crypto import CryptographicModule, FipsCheck
from hal.emul.crypto import EmulCryptographicModule
from hal.linux import crypto
from hal.linux.crypto import LinuxCryptographicModule


class EmulBench:
    def sound(self) -> CryptographicModule:
        return EmulCryptographicModule()

    def without_kernel(self) -> CryptographicModule:
        return self._without(FipsCheck.KERNEL, "the kernel is not in FIPS mode")

    def without_provider(self) -> CryptographicModule:
        return self._without(FipsCheck.PROVIDER, "no provider")

    def _without(self, check: FipsCheck, reason: str) -> CryptographicModule:
        module = EmulCryptographicModule()
        module.backend.failed[check] = reason
        return module


@pytest.mark.parametrize("check", CRYPTO_CHECKS, ids=lambda check: check.__name__)
def test_emul_module(check: Callable[[CryptographicModuleBench], None]) -> None:
    check(EmulBench())


def test_without_the_fips_provider_the_self_test_fails_with_reasons(tmp_path: Path) -> None:
    (flag := tmp_path / "fips_enabled").write_text("1\n")
    result = LinuxCryptographicModule(flag).self_test()
    assert not result.module
    assert set(result.failed) >= {FipsCheck.PROVIDER, FipsCheck.DEFAULT, FipsCheck.REFUSALS, FipsCheck.PYTHON}
    assert not {FipsCheck.KERNEL, FipsCheck.ANSWERS} & set(result.failed)
    assert "MD5 from default" in result.failed[FipsCheck.REFUSALS]
    assert "ChaCha20-Poly1305 from default" in result.failed[FipsCheck.REFUSALS]
    assert "CHACHA20" in result.failed[FipsCheck.PYTHON]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("0\n", "start it with fips=1"), (None, "has no FIPS mode"), ("\n", "start it with fips=1")],
)
def test_the_kernels_fips_flag_must_be_1(tmp_path: Path, content: str | None, reason: str) -> None:
    flag = tmp_path / "fips_enabled"
    if content is not None:
        flag.write_text(content)
    assert reason in LinuxCryptographicModule(flag).self_test().failed[FipsCheck.KERNEL]


def test_a_hash_built_into_python_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start, Python falls back to its own SHA-256 if OpenSSL does not provide it."""
    monkeypatch.setattr(hashlib, "sha256", __import__("_sha256").sha256)
    assert "built-in sha256" in LinuxCryptographicModule().self_test().failed[FipsCheck.PYTHON]


def test_a_wrong_hash_value_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "sha384", hashlib.sha512)
    assert LinuxCryptographicModule().self_test().failed[FipsCheck.ANSWERS] == "wrong results of SHA-2"


def test_a_check_that_raises_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_path: object) -> ctypes.CDLL:
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(crypto, "library_of", refuse)
    failed = LinuxCryptographicModule().self_test().failed
    assert "cannot be checked: OSError" in failed[FipsCheck.PROVIDER]
