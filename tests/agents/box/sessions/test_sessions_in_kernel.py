"""Sessions with real programs: OpenVPN, nftables, TigerVNC, squid and dante, the box program and its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings.types import ProxyKind
from tests.support.agents.sessions.lab import SIZE, session_lab
from tests.support.crypto.hierarchy import Hierarchy
from tests.support.eventually import poll_until
from wire.session.table import SessionState

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("kind", [None, "http", "socks5"])
def test_staff_see_the_desktop_between_the_code_of_the_person_and_the_end(
    pki: Hierarchy, tmp_path: Path, kind: ProxyKind | None
) -> None:
    with session_lab(tmp_path, pki, kind) as lab:
        session = lab.request()
        assert lab.counters()["tunnel_up"] == lab.counters()["tunnel_down"] == (0, 0)
        assert lab.device_packets() == 0
        lab.person.enter_code(session.id, session.code)
        lab.reached(session, SessionState.OPEN)
        desktop = lab.connect(session)
        assert (desktop.receiver.picture.width, desktop.receiver.picture.height) == SIZE
        lab.person.end(session.id)
        lab.reached(session, SessionState.ENDED)
        poll_until(desktop.ended.done)
    verdict = lab.center.verdict()
    assert verdict.is_proven, verdict
    assert verdict.sessions[0].causes == ("ended by the person",)
