"""Enrolments and renewals stay within their bytes and seconds, at 128 kbit/s in the virtual world."""

from __future__ import annotations

from bench.lab.enrolment import EXPIRED_DAYS, figures_of_renewal


def test_after_an_expiry_no_connection_is_made_but_those_that_the_new_certificate_needs() -> None:
    missed = [one for one in figures_of_renewal("renewal", "", EXPIRED_DAYS) if not one["holds"]]
    assert not missed
