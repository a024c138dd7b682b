"""Papers: no answer without evidence, and every change of papers is detected."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agents.provision.main import provision
from imaging.papers.make import documents, make_papers
from rap.__main__ import main
from rap.outcome import FAILED, OK, WRONG_INPUT
from tests.support.imaging.sites import PROVISIONED_SITE
from tests.support.trust.recorded_tree import recorded_evidence, recorded_tree
from trust.evidence import capture, without_secrets
from trust.fact import Fact
from trust.facts import all_facts
from trust.machine import Files, Recorded, resolve
from trust.papers import Papers, PapersError, Statement, decode_papers, encode_papers
from trust.verify import compare


@pytest.fixture
def papers() -> Papers:
    return make_papers("clinic", Recorded(recorded_evidence()), "evidence")


def test_without_evidence_no_statement_has_an_answer() -> None:
    papers = make_papers("clinic", Recorded([]), "evidence")
    assert papers.facts == []
    assert {statement.answer for statement in papers.answers} == {"not shown"}


def test_a_fact_without_evidence_answers_nothing() -> None:
    statement = Statement(id="A-1", text="The sky is blue.", fact="sky.color")
    assert (
        statement.answer({"sky.color": Fact(key="sky.color", values=("blue",), evidence=())}) == "not shown"
    )
    with_evidence = Fact(key="sky.color", values=("blue",), evidence=("file:/sky",))
    assert statement.answer({"sky.color": with_evidence}) == "yes"


def test_answers_about_the_image(papers: Papers) -> None:
    answers = {statement.id: statement.answer for statement in papers.answers}
    of_image = (
        "PORT-1",
        "PORT-6",
        "ISA-2.1.1",
        "ISA-2.3.2",
        "ISA-2.4.1",
        "ISA-2.6.2",
        "FIPS-1",
        "FIPS-2",
        "OUT-5",
    )
    assert {name: answers[name] for name in of_image} == dict.fromkeys(of_image, "yes")
    running_only = ("FIPS-3", "FIPS-4", "FIPS-10", "PROOF-1", "HARD-1")
    assert {name: answers[name] for name in running_only} == dict.fromkeys(running_only, "not shown")
    assert answers["HARD-8"] == "no"
    assert answers["FIPS-9"] == "not shown"


def test_ids_of_statements_are_unique() -> None:
    ids = [
        statement.id for paper in documents() for section in paper.section for statement in section.statement
    ]
    assert len(ids) == len(set(ids))


def test_every_fact_has_evidence_with_its_hash(papers: Papers) -> None:
    evidence = {piece.id: piece for piece in papers.evidence}
    for fact in papers.facts:
        assert fact.evidence
        assert all(evidence[ident].intact for ident in fact.evidence)


def test_papers_agree_with_the_machine_that_they_were_made_from(papers: Papers, tmp_path: Path) -> None:
    assert compare(papers, Recorded(recorded_evidence())).agrees
    tree = compare(papers, Files(recorded_tree(tmp_path), runs=False))
    topics = {deviation.fact.partition(".")[0] for deviation in tree.deviations}
    assert topics == {"packages"}, "the tree has no package database"


def _changed(papers: Papers, **more: object) -> Papers:
    return decode_papers(encode_papers(msgspec.structs.replace(papers, **more)))


def test_a_changed_text_of_evidence_is_found(papers: Papers) -> None:
    first, *others = papers.evidence
    forged = msgspec.structs.replace(first, text=first.text + "more\n")
    altered = compare(_changed(papers, evidence=[forged, *others]), Recorded(recorded_evidence())).altered
    assert f"evidence {first.id}: the text does not have the recorded SHA-256" in altered


def test_a_changed_value_is_found_even_if_the_machine_has_it_too(papers: Papers, tmp_path: Path) -> None:
    tree = recorded_tree(tmp_path)
    sshd = tree / "etc/ssh/sshd_config.d/00-rap.conf"
    sshd.write_text(sshd.read_text().replace("PasswordAuthentication no", "PasswordAuthentication yes"))
    facts = [
        msgspec.structs.replace(fact, values=("yes",)) if fact.key == "ssh.password-login" else fact
        for fact in papers.facts
    ]
    altered = compare(_changed(papers, facts=facts), Files(tree, runs=False)).altered
    assert any("fact ssh.password-login: does not follow" in message for message in altered)


def test_a_changed_answer_is_found(papers: Papers) -> None:
    first, *others = papers.answers
    answers = [msgspec.structs.replace(first, answer="n/a"), *others]
    (altered,) = compare(_changed(papers, answers=answers), Recorded(recorded_evidence())).altered
    assert papers.answers[0].id in altered


def test_secrets_are_neither_kept_nor_hashed() -> None:
    proxy = 'proxy = { host = "192.0.2.3", user = "box", password = "s3\\"cret" }\n'
    text = proxy + 'secret = "psk"\n[ipv4]\npsk=hidden\n'
    kept = without_secrets(text)
    assert "192.0.2.3" in kept
    assert not any(word in kept for word in ("s3", 'cret"', 'psk"', "hidden", '"box"'))
    other = text.replace('s3\\"cret', "another")
    assert capture("file", "/f", text, "").sha256 == capture("file", "/f", other, "").sha256


def test_links_of_a_tree_do_not_lead_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/inside").write_text("of the tree")
    (tmp_path / "etc/link").symlink_to("/etc/inside")
    (tmp_path / "etc/upward").symlink_to("../../../../../etc/inside")
    (tmp_path / "etc/loop").symlink_to("/etc/loop")
    for name in ("link", "upward"):
        assert resolve(tmp_path, f"/etc/{name}").read_text() == "of the tree"
    machine = Files(tmp_path, runs=False)
    assert machine.file("/etc/loop") is None
    assert machine.file("/etc/hostname") is None


def test_the_command_writes_papers_and_verifies_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, tree, out = tmp_path / "clinic.toml", recorded_tree(tmp_path / "tree"), tmp_path / "papers"
    site.write_text(PROVISIONED_SITE)
    assert main(["trust", "papers", "--site", str(site), "--tree", str(tree), "-o", str(out)]) == OK
    provision(site, tree)
    verify = ["trust", "verify", str(out / "papers.json"), "--tree", str(tree)]
    assert main(verify) == OK
    hosts = tree / "etc/hosts"
    hosts.write_text(hosts.read_text() + "198.51.100.66 ingest.example.com\n")
    capsys.readouterr()
    assert main(verify) == FAILED
    printed = capsys.readouterr().out
    assert "network.hosts" in printed
    assert "198.51.100.66" in printed
    (tmp_path / "other.json").write_text("{}")
    assert main(["trust", "verify", str(tmp_path / "other.json"), "--tree", str(tree)]) == WRONG_INPUT
    assert main(["trust", "verify", str(out / "papers.json")]) == WRONG_INPUT
    assert main(["trust", "verify", str(out / "papers.json"), "--tree", str(tmp_path)]) == WRONG_INPUT


def test_evidence_in_a_file_gives_the_same_facts(tmp_path: Path) -> None:
    tree, file = recorded_tree(tmp_path / "tree"), tmp_path / "evidence.json"
    assert main(["trust", "evidence", "--tree", str(tree), "-o", str(file)]) == OK
    site = tmp_path / "clinic.toml"
    site.write_text(PROVISIONED_SITE)
    out = tmp_path / "papers"
    assert main(["trust", "papers", "--site", str(site), "--evidence", str(file), "-o", str(out)]) == OK
    facts = all_facts(Files(tree, runs=False))
    by_key = decode_papers((out / "papers.json").read_bytes()).by_key()
    of_box = {key: fact.values for key, fact in by_key.items() if not key.startswith("proof.")}
    assert of_box == {key: fact.values for key, fact in facts.items()}


def test_a_condition_that_is_not_a_regular_expression_is_refused(papers: Papers) -> None:
    wrong = encode_papers(papers).replace(b'"matches": []', b'"matches": ["("]', 1)
    with pytest.raises(PapersError, match="is not a regular expression"):
        decode_papers(wrong)
