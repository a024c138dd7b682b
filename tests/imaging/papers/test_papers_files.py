"""The files of the papers (documents, diagram and PDFs), made from the facts of an image provisioned for a site."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from agents.provision.main import files_of
from imaging.papers.flows import ROLES, flows
from imaging.papers.make import countries, documents, make_papers
from imaging.papers.save import save_papers
from netfw.policy.policyfile import Role
from rap.__main__ import main
from rap.outcome import WRONG_INPUT
from tests.support.imaging.sites import PROVISIONED_SITE
from tests.support.trust.recorded_tree import recorded_evidence, recorded_tree
from trust.evidence import capture
from trust.facts import all_facts
from trust.machine import Files, Recorded
from trust.papers import Papers

PASSWORD = "geheim-4711"
SITE = f"""\
{PROVISIONED_SITE}
[proxy]
kind = "http"
host = "192.0.2.3"
port = 3128
user = "box-user-4711"
password = "{PASSWORD}"

[sessions]
endpoint = "ingest.example.com:8444"
keys = ["{"A" * 120}"]
ways = ["code"]
""".replace('serial = "CHEM-0001"\n', 'serial = "CHEM-0001"\naddress = "10.77.2.5"\n')


def provisioned(folder: Path, text: str) -> Files:
    """Return the recorded image with the files that provisioning writes for a site."""
    return Files(recorded_tree(folder / "tree"), runs=False, own=files_of(text, folder / "site.toml"))


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return make_papers("clinic", provisioned(tmp_path, SITE), "tree", "DE")


def test_the_mds2_has_all_questions_of_the_form() -> None:
    (mds2,) = (one for one in documents() if one.id == "mds2")
    ids = [statement.id for section in mds2.section for statement in section.statement]
    assert len(ids) == 240
    assert {one.split("-")[0] for one in ids} == {section.title.split(":")[0] for section in mds2.section}


def test_every_role_of_a_destination_is_a_party_of_the_diagram() -> None:
    assert set(get_args(Role)) | {"dhcp"} == set(ROLES)


def test_flows_lead_through_the_proxy_and_name_their_services(papers: Papers) -> None:
    by_ends = {
        (one.source, one.target): one for one in flows(papers.by_key()) if "session" not in one.content
    }
    assert by_ends["Box", "Proxy"].services == ("tcp/3128",)
    assert by_ends["Proxy", "Data center"].zones == ("hospital", "outside")
    assert by_ends["Port 2: CHEM-0001, CHEM-0002", "Box"].services == ("tcp/443", "tcp/8443")
    (session,) = (one for one in flows(papers.by_key()) if "session" in one.content)
    assert (session.source, session.services) == ("Proxy", ("tcp/8444",))


def test_paths_of_personal_information_are_named(papers: Papers, tmp_path: Path) -> None:
    ways = papers.by_key()["personal.ways"].values
    assert any("screen of CHEM-0001 in a remote session" in one for one in ways)
    assert any("data files that are requested from CHEM-0002" in one for one in ways)
    answers = {one.id: one.answer for one in papers.answers}
    assert (answers["MPII-1"], answers["OUT-4"], answers["DE-4"]) == ("yes", "no", "no")
    other = re.sub(r"\[\[instrument\]\]\n(.+\n)+", "", PROVISIONED_SITE)
    without = make_papers("clinic", provisioned(tmp_path / "other", other), "tree")
    assert without.by_key()["personal.ways"].values == ()
    assert {one.id: one.answer for one in without.answers}["MPII-1"] == "no"


def test_the_data_center_is_a_destination_of_the_systems_audit_log(papers: Papers) -> None:
    destinations = papers.by_key()["audit.destinations"].values
    assert len([one for one in destinations if one.startswith("the data center, ")]) == 1


def test_logs_whose_lines_are_sent_as_text_are_named(papers: Papers) -> None:
    system, sessions = papers.by_key()["messages.log-lines"].values
    assert system.startswith("system (/var/log/audit): ") and "content: at most 1536 bytes" in system
    assert sessions.startswith("sessions (")
    answers = {one.id: one.answer for one in papers.answers}
    assert (answers["OUT-1.1"], answers["OUT-1.2"]) == ("yes", "no")


def test_messages_that_this_program_does_not_know_are_not_shown() -> None:
    changed = [
        capture(one.kind, one.source, one.text + "\n", one.at)
        if one.source.endswith("wire/messages.py")
        else one
        for one in recorded_evidence()
    ]
    facts = all_facts(Recorded(changed))
    unknown = {"messages.fields", "messages.box-fields", "messages.log-lines", "personal.ways"}
    assert not unknown & facts.keys()


def test_a_refuted_theorem_answers_no() -> None:
    theorem = {"name": "outside", "says": "only answers are accepted from outside", "holds": True}
    proof = {"theorems": [theorem], "assumed": [], "not_covered": []}
    for holds, answer in ((True, "yes"), (False, "no")):
        theorem["holds"] = holds
        papers = make_papers(
            "clinic", Recorded(recorded_evidence(), {"proof": json.dumps(proof)}), "evidence"
        )
        assert {one.id: one.answer for one in papers.answers}["PROOF-1"] == answer
    for wrong in ("{}", "no JSON", "[]", '{"theorems": 1}'):
        papers = make_papers("clinic", Recorded(recorded_evidence(), {"proof": wrong}), "evidence")
        assert {one.id: one.answer for one in papers.answers}["PROOF-1"] == "not shown"


def test_the_files_have_all_documents_and_no_secret(papers: Papers, tmp_path: Path) -> None:
    written = {file.name: file.read_bytes() for file in save_papers(papers, tmp_path / "papers")}
    assert {f"{one.id}.pdf" for one in papers.documents} <= written.keys()
    assert all(content.startswith(b"%PDF-") for name, content in written.items() if name.endswith(".pdf"))
    assert len(re.findall(rb"/Type /Page\b", written["mds2.pdf"])) > 5
    assert b"Proxy" in written["data-flow.svg"]
    assert "$defs" in json.loads(written["papers.schema.json"])
    for content in (written["papers.json"], written["data-flow.svg"]):
        assert PASSWORD.encode() not in content
        assert b"box-user-4711" not in content


def test_the_command_refuses_a_country_without_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site.toml"
    site.write_text(SITE)
    arguments = [
        "trust",
        "papers",
        "--site",
        str(site),
        "--tree",
        str(recorded_tree(tmp_path / "tree")),
        "-o",
        str(tmp_path / "papers"),
    ]
    assert main([*arguments, "--country", "XX"]) == WRONG_INPUT
    assert ", ".join(countries()) in capsys.readouterr().err
    for country in countries():
        rules = next(one for one in documents(country) if one.id == "rules-of-the-country")
        sources = [one.source for section in rules.section for one in section.statement]
        assert sources and all("https://" in source for source in sources)
