"""Papers of an image hold for its box, although the firewall enables forwarding of packets of remote sessions."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.rpm.contents import RECIPE
from tests.support.sessions.site import BOARD, FIREWALL
from trust.facts.system import BY_THE_FIREWALL, SYSCTL, facts
from trust.machine import Files


def settings(root: Path, forwards: str = "") -> tuple[str, ...]:
    """Return the kernel settings of an image, or of its box with this value of `ip_forward` ("1", "0")."""
    own = {"proc/sys/net/ipv4/ip_forward": f"{forwards}\n"} if forwards else {}
    return next(
        fact.values
        for fact in facts(Files(root, runs=False, own=own))
        if fact.key == "system.kernel-settings"
    )


@pytest.mark.parametrize("has_sessions", [True, False])
def test_forwarding_of_a_box_with_sessions_is_set_by_the_firewall(tmp_path: Path, has_sessions: bool) -> None:
    (folder := tmp_path / "etc/rap").mkdir(parents=True)
    policy = FIREWALL.format(desktop=5900)
    (folder / "firewall.toml").write_text(policy if has_sessions else policy.partition("[tunnel]")[0])
    (folder / "board.toml").write_text(BOARD)
    (tmp_path / SYSCTL[1:]).parent.mkdir()
    (tmp_path / SYSCTL[1:]).write_text((RECIPE / "root" / SYSCTL[1:]).read_text())
    image = settings(tmp_path)
    assert settings(tmp_path, "0") == image
    assert (settings(tmp_path, "1") == image) is has_sessions
    assert f"net.ipv4.ip_forward = {BY_THE_FIREWALL if has_sessions else 0}" in image
