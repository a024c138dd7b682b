"""A renewal after an expiry needs no more bytes and seconds than permitted, at 128 kbit/s in the virtual world."""

from __future__ import annotations

from bench.lab.enrolment import EXPIRED_DAYS, figures_of_renewal


def test_a_renewal_after_an_expiry_meets_its_targets() -> None:
    missed = [figure for figure in figures_of_renewal("renewal", "", EXPIRED_DAYS) if not figure["holds"]]
    assert not missed
