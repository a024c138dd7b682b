"""Documents about a machine for its papers, generated if their inputs are available.

The firewall proof needs the policy; it applies to the kernel's ruleset if that was recorded, otherwise to the ruleset
rendered from the policy. The hardening scan needs the files of a system, OpenSCAP with its content, and root. The
software list needs the package database.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from imaging.build.packages import DATABASES, installed
from imaging.build.sbom import render as render_sbom
from imaging.build.types import BuildFailed
from imaging.check.show import as_document
from imaging.check.system import check_tree
from imaging.check.types import InvalidCheckInput
from imaging.programs import PrerequisiteMissing
from netfw.ruleset.names import FAMILY, TABLE
from netfw.ruleset.render import render
from trust.machine import Files, Recorded
from trust.policy_evidence import POLICY, policy_of

KINDS: Final = ("proof", "hardening", "sbom")
RENDERED: Final = (
    "the kernel has loaded the ruleset of the policy; `rap fw prove` on the box proves the loaded ruleset"
)
ELSEWHERE: Final = "there are no other tables: a saved listing does not include other tables and interfaces"
Machine: TypeAlias = Files | Recorded


class MadeDocuments(NamedTuple):
    """The documents by kind, and the reasons why the others could not be generated."""

    texts: dict[str, str]
    why_not: dict[str, str]


class _InputMissingError(Exception):
    """An input is missing; the message names it."""


def make_documents(
    machine: Machine, tree: Path | None, wanted: Collection[str] = KINDS, *, image: Path | None = None
) -> MadeDocuments:
    """Return the requested documents; `tree` has the files of the system, or of the `image` if it is given."""
    makers: dict[str, Callable[[], str]] = {
        "proof": lambda: _proof(machine),
        "hardening": lambda: _hardening(tree, is_image=image is not None),
        "sbom": lambda: _sbom(tree, image),
    }
    documents = MadeDocuments({}, {})
    for kind in wanted:
        try:
            documents.texts[kind] = makers[kind]()
        except (_InputMissingError, InvalidCheckInput, PrerequisiteMissing, BuildFailed) as error:
            documents.why_not[kind] = str(error)
    return documents


def _proof(machine: Machine) -> str:
    policy_and_file = policy_of(machine)
    if policy_and_file is None:
        raise _InputMissingError(f"there is no valid policy {POLICY}")
    try:
        from netfw.proof.prove import proof_document, prove
        from netfw.proof.symbolic import Unproven
        from netfw.watch.surroundings import ASSUMPTIONS
    except ModuleNotFoundError as error:
        raise _InputMissingError(f"{error.name} is not installed: pip install 'rap-box[proof]'") from error
    policy, _ = policy_and_file
    kernel = machine.command("nft", "-j", "list", "ruleset")
    if kernel is None:
        objects, elsewhere = [command["add"] for command in render(policy).commands()], RENDERED
    else:
        objects, elsewhere = _of_table(json.loads(kernel.text)["nftables"]), ELSEWHERE
    try:
        findings = list(prove(policy, objects))
    except (Unproven, LookupError, TypeError, ValueError, AttributeError) as error:
        raise _InputMissingError(f"the ruleset contains something that cannot be proved: {error}") from error
    return json.dumps(proof_document(POLICY, findings, (*ASSUMPTIONS, elsewhere), ()), indent=1)


def _of_table(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the box's table and the objects in it."""
    selected = []
    for item in objects:
        ((kind, body),) = item.items()
        name = body.get("name") if kind == "table" else body.get("table")
        if (body.get("family"), name) == (FAMILY, TABLE):
            selected.append(item)
    return selected


def _hardening(tree: Path | None, *, is_image: bool) -> str:
    if tree is None:
        raise _InputMissingError(
            "the scan reads the files of a system; give its directory or image with --tree"
        )
    if not (tree / "etc/redhat-release").exists():
        raise _InputMissingError(f"{tree}: is neither RHEL nor a rebuild of it; the scan supports only these")
    return json.dumps(as_document(check_tree(tree, is_image=is_image)), indent=1, ensure_ascii=False)


def _sbom(tree: Path | None, image: Path | None) -> str:
    if tree is None:
        raise _InputMissingError(
            "the list of software is read from the files of a system; give them with --tree"
        )
    if image and (beside := image.with_name(f"{image.stem}.spdx.json")).is_file():
        return beside.read_text("utf-8")
    if not any((tree / path / "rpmdb.sqlite").exists() for path in DATABASES):
        raise _InputMissingError(f"{tree}: has no package database")
    name = image.stem if image else tree.name
    return render_sbom(name, "", installed(tree, lambda _: None), tree, int(time.time()))
