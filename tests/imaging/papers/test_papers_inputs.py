"""Documents of the papers are generated if their inputs exist; otherwise the reason is reported."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from imaging.papers.inputs import KINDS, RENDERED, make_documents
from imaging.papers.make import make_papers
from netfw.ruleset.render import render
from tests.support.trust.recorded_tree import recorded_evidence, recorded_tree
from trust.evidence import capture
from trust.machine import Files, Recorded, documents_of
from trust.policy_evidence import policy_of


def answer(machine: Recorded, statement: str) -> str:
    """Return the answer to a statement of the papers for a machine, from the documents that are made for it."""
    machine.evidence |= documents_of(make_documents(machine, None).texts)
    return {one.id: one.answer for one in make_papers("clinic", machine, "evidence").answers}[statement]


def with_kernel(*, is_open: bool) -> Recorded:
    """Return the recorded image with a kernel that has its ruleset; if `is_open`, it first accepts all input."""
    evidence = recorded_evidence()
    policy = policy_of(Recorded(evidence))
    assert policy is not None
    objects = [command["add"] for command in render(policy[0]).commands()]
    rule = {"family": "inet", "table": "rap", "chain": "input", "expr": [{"accept": None}]}
    first = next(index for index, item in enumerate(objects) if item.get("rule", {}).get("chain") == "input")
    objects[first:first] = [{"rule": rule}] * is_open
    text = json.dumps({"nftables": [{"metainfo": {}}, *objects]})
    return Recorded([*evidence, capture("command", "nft -j list ruleset", text, evidence[0].at)])


def test_the_proof_is_about_the_policy_and_states_its_assumptions() -> None:
    machine = Recorded(recorded_evidence())
    documents = make_documents(machine, None)
    proof = json.loads(documents.texts["proof"])
    assert proof["holds"] and RENDERED in proof["assumed"]
    assert set(documents.why_not) == {"hardening", "sbom"}
    assert answer(machine, "PROOF-1") == "yes"


def test_the_proof_of_a_running_box_is_about_its_kernels_ruleset() -> None:
    documents = make_documents(with_kernel(is_open=False), None, ["proof"])
    proof = json.loads(documents.texts["proof"])
    assert proof["holds"] and RENDERED not in proof["assumed"]
    assert answer(with_kernel(is_open=True), "PROOF-1") == "no"


def test_a_tree_without_inputs_has_no_documents(tmp_path: Path) -> None:
    documents = make_documents(Files(tmp_path, runs=False), tmp_path)
    assert not documents.texts and set(documents.why_not) == set(KINDS)
    assert "no valid policy" in documents.why_not["proof"]
    assert "no package database" in documents.why_not["sbom"]


@pytest.mark.skipif(not shutil.which("rpm"), reason="needs rpm")
def test_the_sbom_is_made_from_the_tree_or_read_beside_the_image(tmp_path: Path) -> None:
    tree = recorded_tree(tmp_path / "tree")
    database = tree / "var/lib/rpm"
    subprocess.run(["rpm", "--dbpath", str(database), "--initdb"], check=True)
    (tree / "usr/lib/python/msgspec-0.19.0.dist-info").mkdir(parents=True)
    documents = make_documents(Files(tree, runs=False), tree, ["sbom"])
    names = [one["name"] for one in json.loads(documents.texts["sbom"])["packages"]]
    assert names == ["tree", "msgspec"]
    image = tmp_path / "box.img"
    (tmp_path / "box.spdx.json").write_text('{"packages": []}')
    assert make_documents(Files(tree, runs=False), tree, ["sbom"], image=image).texts == {
        "sbom": '{"packages": []}'
    }
