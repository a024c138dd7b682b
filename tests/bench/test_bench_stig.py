"""The figures of the hardening benchmark."""

from __future__ import annotations

from typing import Any

from bench.image.stig import compare


def document(*rules: str) -> dict[str, Any]:
    fails = [{"rule": rule, "severity": "high", "reason": "a reason"} for rule in rules]
    return {"counts": {"high": {"fail": len(rules)}}, "fails": fails, "passed_share": 0.5, "stale": []}


def test_a_contradiction_of_profiles_is_counted_and_named() -> None:
    figures = {figure["name"]: figure for figure in compare("cis", document("configure_crypto_policy"))}
    contradicting = (
        "cis: of these, contradicting the STIG's cryptographic policy FIPS: configure_crypto_policy"
    )
    assert figures["cis: high-severity rules that fail"]["measured"] == 1
    assert figures[contradicting]["measured"] == 1
    assert figures["cis: high-severity rules that fail otherwise"]["holds"]


def test_any_other_failing_high_rule_misses_the_target() -> None:
    rules = document("configure_crypto_policy", "no_empty_passwords")
    figures = {figure["name"]: figure for figure in compare("cis", rules)}
    assert not figures["cis: high-severity rules that fail otherwise"]["holds"]
