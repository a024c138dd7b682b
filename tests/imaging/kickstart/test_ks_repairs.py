"""The repairs that the linter states for removed commands, and the firewall services that packages add."""

from __future__ import annotations

from pathlib import Path

import pytest

from imaging.kickstart.lint import lint
from imaging.repository.repository import Repository
from tests.support.imaging.kickstarts import good
from tests.support.imaging.repositories import BOX, BOX_COMPS, Rpm, write_repository


@pytest.mark.parametrize(
    ("line", "repair"),
    [
        ("auth --useshadow", "authselect select"),
        ("authconfig --useshadow", "authselect select"),
        ("autostep", "leave it out"),
        ("device usb", "leave it out"),
        ("deviceprobe", "leave it out"),
        ("dmraid --name=a", "leave it out"),
        ("install", "cdrom, url, nfs and harddrive"),
        ("method", "cdrom, url, nfs or harddrive"),
        ("multipath --mpdev=a", "leave it out"),
        ("upgrade", "cannot upgrade"),
    ],
)
def test_the_repair_of_a_removed_command_names_its_replacement(
    tmp_path: Path, line: str, repair: str
) -> None:
    file = tmp_path / "old.ks"
    file.write_text(f"{line}\n{good('', 'almalinux9')}")
    (finding,) = [finding for finding in lint(file, "", [], None, None).findings if finding.line == 1]
    assert finding.rule in ("syntax", "deprecated")
    assert repair in finding.repair


def test_a_firewall_service_may_come_from_a_package(tmp_path: Path) -> None:
    rap = Rpm("rap-services", files=("/usr/lib/firewalld/services/rap-box.xml",))
    repository = Repository.load(write_repository(tmp_path / "repo", (*BOX, rap), BOX_COMPS))
    file = tmp_path / "box.ks"
    file.write_text(good("", "almalinux9") + "firewall --enabled --service=rap-box,rap-bax\n")
    problems = [
        finding.problem
        for finding in lint(file, "", [repository], None, None).findings
        if finding.rule == "firewall-service-unknown"
    ]
    assert problems == ["firewalld has no service 'rap-bax'"]
