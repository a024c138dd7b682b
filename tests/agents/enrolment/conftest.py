from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.enrolment_center import EnrolmentCenter


@pytest.fixture
def center(tmp_path: Path) -> Iterator[EnrolmentCenter]:
    center = EnrolmentCenter(tmp_path)
    yield center
    center.store.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry after at most 50 ms. Timeouts keep their values of the field, so that a busy machine meets them."""
    for name in ("CHECK_SECONDS", "RETRY_SECONDS_MIN", "APPROVAL_SECONDS", "REFUSED_SECONDS"):
        monkeypatch.setattr(f"agents.enrolment.renewal.{name}", 0.01)
    monkeypatch.setattr("agents.enrolment.renewal.RETRY_SECONDS_MAX", 0.05)
    monkeypatch.setattr("datacenter.enrolment.service.WAITING_SECONDS_MIN", 0)
    monkeypatch.setattr("datacenter.enrolment.service.WAITING_SECONDS_MAX", 0)
