"""The threat model covers every flow of the diagram, with evidence that exists, and its page is current."""

from __future__ import annotations

from collections import Counter

from imaging.check.asd import evidence_exists
from imaging.papers.flows import ROLES
from imaging.papers.threats import OWN_FLOWS, page, threat_model
from tests.support.commands import commands
from tests.support.paths import ROOT


def test_every_flow_has_its_threats_once() -> None:
    roles = Counter(role for flow in threat_model().flow for role in flow.roles)
    assert roles == Counter([*ROLES, *OWN_FLOWS])


def test_every_flow_has_the_six_kinds_of_threats_with_evidence_that_exists() -> None:
    known = commands()
    for flow in threat_model().flow:
        threats = dict(flow.by_kind())
        assert len(threats) == 6
        missing = [
            one for threat in threats.values() for one in threat.evidence if not evidence_exists(one, known)
        ]
        assert missing == [], flow.name


def test_the_page_is_current() -> None:
    assert (ROOT / "docs/reference/threat-model.md").read_text("utf-8") == page()
