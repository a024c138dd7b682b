"""Cryptography: the policy, FIPS mode, OpenSSL's providers, the self-test, and the box program's TLS settings."""

from __future__ import annotations

import json
from collections.abc import Iterator

from trust.fact import Fact, fact, settings_lines
from trust.machine import ExaminedBox


def facts(machine: ExaminedBox) -> Iterator[Fact]:
    """Yield the state of cryptography."""
    if policy := machine.file("/etc/crypto-policies/config"):
        yield fact("crypto.policy", settings_lines(policy.text), policy)
    if state := machine.file("/etc/crypto-policies/state/current"):
        yield fact("crypto.policy-applied", settings_lines(state.text), state)
    if openssl := machine.file("/etc/crypto-policies/back-ends/opensslcnf.config"):
        yield fact("crypto.openssl-policy", settings_lines(openssl.text), openssl)
    if enabled := machine.file("/proc/sys/crypto/fips_enabled"):
        yield fact("crypto.fips-kernel", enabled.text.strip(), enabled)
    if providers := machine.command("openssl", "list", "-providers"):
        names = [
            line.strip() for line in providers.text.splitlines() if line.startswith("  ") and line[2] != " "
        ]
        yield fact("crypto.openssl-providers", names, providers)
    if tested := machine.command(
        "rap", "trust", "fips", "--json"
    ):  # it fails where FIPS mode is not in force
        result = json.loads(tested.text)
        if not result["failed"]:
            yield fact("crypto.self-test", [result["module"]], tested)
    if settings := machine.file("/usr/lib/rap/python/wire/tls/openssl.cnf"):
        yield fact(
            "crypto.box-tls", [line for line in settings_lines(settings.text) if "=" in line], settings
        )
