"""`rap trust`: evidence about a box, papers for a hospital's IT, and the comparison of both."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rap.outcome import FAILED, OK, MachineLacks, WrongInput
from rap.parser import Parser
from rap.trust.algorithms import add_verb as add_algorithms
from rap.trust.fips import add_verb as add_fips

if TYPE_CHECKING:
    from trust.machine import Files, Recorded


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap trust`."""
    evidence = parser.add_command("evidence", "collect the evidence of a box in a file, without secrets")
    _add_machine(evidence)
    evidence.add_argument("-o", dest="output", metavar="FILE", type=Path, required=True)
    evidence.set_command(_evidence)
    papers = parser.add_command("papers", "write the papers of a site's box")
    papers.add_argument("--site", metavar="FILE", type=Path, required=True, help="the site file")
    _add_machine(papers)
    papers.add_argument("--evidence", metavar="FILE", type=Path, help="a file of `rap trust evidence`")
    papers.add_argument("--country", metavar="CODE", help="the country whose rules appear, such as DE")
    papers.add_argument(
        "--proof",
        metavar="FILE",
        type=Path,
        help="the output of `rap fw prove --json`; by default, the proof is run",
    )
    papers.add_argument(
        "--hardening", metavar="FILE", type=Path, help="the output of `rap image check --json`"
    )
    papers.add_argument(
        "--sbom", metavar="FILE", type=Path, help="the list of software beside the image (SPDX)"
    )
    papers.add_argument(
        "--no-scan", action="store_true", help="do not scan the hardening, which takes minutes"
    )
    papers.add_argument("-o", dest="output", metavar="DIR", type=Path, required=True)
    papers.set_command(_papers)
    verify = parser.add_command("verify", "compare a box with its papers")
    verify.add_argument("papers", metavar="PAPERS.json", type=Path)
    _add_machine(verify)
    verify.add_argument("--evidence", metavar="FILE", type=Path, help="a file of `rap trust evidence`")
    verify.add_argument("--json", action="store_true", help="one JSON document on standard output")
    verify.set_command(_verify)
    asd = parser.add_command("asd", "the Application Security and Development STIG as a checklist")
    asd.add_argument("--json", action="store_true", help="one JSON document on standard output")
    asd.set_command(_asd)
    cves = parser.add_command("cves", "known vulnerabilities of an SBOM's components, from OSV files")
    cves.add_argument(
        "--osv",
        metavar="DIR",
        type=Path,
        required=True,
        help="OSV data: JSON files, or all.zip of ecosystems",
    )
    cves.add_argument(
        "--sbom", metavar="FILE", type=Path, required=True, help="the SBOM beside an image (SPDX)"
    )
    cves.add_argument(
        "--vex",
        metavar="FILE",
        type=Path,
        help="an OpenVEX document of vulnerabilities that do not affect the box",
    )
    cves.add_argument(
        "--release", metavar="NAME", default="", help="the ecosystem of OSV, such as AlmaLinux:9"
    )
    cves.add_argument("--json", action="store_true", help="one JSON document on standard output")
    cves.set_command(_cves)
    vex = parser.add_command("vex", "make an OpenVEX document from statements about the packages of an SBOM")
    vex.add_argument(
        "--sbom", metavar="FILE", type=Path, required=True, help="the SBOM beside an image (SPDX)"
    )
    vex.add_argument("--statements", metavar="FILE", type=Path, help="default: NAME.vex.toml beside the SBOM")
    vex.add_argument("-o", dest="output", metavar="FILE", type=Path, required=True)
    vex.set_command(_vex)
    add_algorithms(parser)
    add_fips(parser)


def _add_machine(parser: Parser) -> None:
    parser.add_argument(
        "--tree", metavar="DIR", type=Path, help="the root directory of a system; for papers, or an image"
    )
    parser.add_argument("--running", action="store_true", help="this running system; as root")


def _evidence(arguments: argparse.Namespace) -> int:
    from trust.evidence import encode_evidence
    from trust.facts import all_facts

    machine, _ = _machine(arguments)
    facts = all_facts(machine)
    arguments.output.write_bytes(encode_evidence(machine.evidence.values()))
    print(f"{arguments.output}: evidence of {len(facts)} facts")
    return OK


def _papers(arguments: argparse.Namespace) -> int:
    from collections import Counter

    from imaging.papers.inputs import KINDS, make_documents
    from imaging.papers.make import countries, make_papers
    from imaging.papers.save import save_papers
    from trust.machine import documents_of

    country = (arguments.country or "").upper()
    if country and country not in countries():
        raise WrongInput(
            f"--country {country}: its rules are not recorded; those of {', '.join(countries())} are"
        )
    name, generated = _site(arguments.site)
    with _tree_of_image(arguments) as image:
        machine, origin = _machine(arguments, generated)
        kinds = [kind for kind in KINDS if getattr(arguments, kind) is None]
        kinds = [kind for kind in kinds if kind != "hardening" or not arguments.no_scan]
        documents = make_documents(machine, arguments.tree, kinds, image=image)
        machine.evidence |= documents_of(documents.texts)
        papers = make_papers(name, machine, origin, country)
    try:
        written = save_papers(papers, arguments.output)
    except OSError as error:
        raise WrongInput(f"{error.filename}: {error.strerror}; give a folder that can be written") from error
    counts = Counter(statement.answer for statement in papers.answers)
    shown = ", ".join(f"{answer}: {count}" for answer, count in sorted(counts.items()))
    print(*written, sep="\n")
    for kind, reason in documents.why_not.items():
        print(f"without {kind}: {reason}")
    print(f"{len(papers.answers)} statements ({shown})")
    return OK


@contextmanager
def _tree_of_image(arguments: argparse.Namespace) -> Iterator[Path | None]:
    """If `--tree` names an image, replace it with a folder that has the image's files; yield the image."""
    from imaging.check.tree import opened_tree
    from imaging.check.types import InvalidCheckInput
    from imaging.programs import PrerequisiteMissing

    image: Path | None = arguments.tree
    if image is None or not image.is_file():
        yield None
        return
    try:
        with opened_tree(image) as arguments.tree:
            yield image
    except InvalidCheckInput as error:
        raise WrongInput(str(error)) from error
    except PrerequisiteMissing as error:
        raise MachineLacks(str(error)) from error


def _site(file: Path) -> tuple[str, dict[str, str]]:
    """Return the site's name, and the files that provisioning makes from it."""
    from agents.provision.main import files_of
    from settings.problems import SettingsError
    from settings.site import parse_site
    from settings.toml import read_text

    try:
        text = read_text(file)
        site, _ = parse_site(text, file)
        return f"{file.stem} ({site.datacenter.host})", files_of(text, file)
    except SettingsError as error:
        raise WrongInput(str(error)) from error


def _verify(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from trust.papers import PapersError, decode_papers
    from trust.verify import compare

    try:
        papers = decode_papers(arguments.papers.read_bytes())
    except (OSError, PapersError) as error:
        raise WrongInput(f"{arguments.papers}: {error}") from error
    machine, _ = _machine(arguments)
    result = compare(papers, machine)
    if arguments.json:
        document = {"agrees": result.agrees, **asdict(result)}
        print(json.dumps(document, indent=1, ensure_ascii=False))
        return OK if result.agrees else FAILED
    print("\n".join(result.lines()))
    if result.beyond:
        print(f"not in the papers: {', '.join(result.beyond)}")
    return OK if result.agrees else FAILED


def _cves(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from imaging.check.cves import read_components, scan_components
    from imaging.check.types import InvalidCheckInput

    try:
        components = read_components(arguments.sbom)
        findings = scan_components(components, arguments.osv, arguments.vex, arguments.release)
    except InvalidCheckInput as error:
        raise WrongInput(str(error)) from error
    concerned = [finding for finding in findings if finding.verdict != "not affected"]
    if arguments.json:
        print(
            json.dumps(
                {"components": len(components), "findings": [asdict(finding) for finding in findings]},
                indent=1,
            )
        )
        return FAILED if concerned else OK
    for finding in findings:
        component = f"{finding.component.name} {finding.component.version}"
        reason = finding.reason or f"fixed in {finding.fixed or 'no version yet'}"
        print(f"{finding.verdict}: {finding.vulnerability}: {component}: {reason}")
    print(f"{len(components)} components, {len(concerned)} findings that concern them")
    return FAILED if concerned else OK


def _vex(arguments: argparse.Namespace) -> int:
    from imaging.check.types import InvalidCheckInput
    from imaging.check.vex import make_vex, statements_beside

    file = arguments.statements or statements_beside(arguments.sbom)
    try:
        arguments.output.write_text(make_vex(file, arguments.sbom), "utf-8")
    except InvalidCheckInput as error:
        raise WrongInput(str(error)) from error
    except OSError as error:
        raise WrongInput(
            f"{error.filename}: {error.strerror}; give a file in a folder that can be written"
        ) from error
    print(arguments.output)
    return OK


def _asd(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    import msgspec

    from imaging.check.asd import CATEGORIES, counts, open_of_category_one, read_checklist
    from imaging.check.types import InvalidCheckInput

    try:
        findings = read_checklist()
    except InvalidCheckInput as error:
        raise WrongInput(str(error)) from error
    failed = open_of_category_one(findings)
    if arguments.json:
        rules = [asdict(finding) | {"rule": msgspec.structs.asdict(finding.rule)} for finding in findings]
        print(json.dumps({"counts": counts(findings), "rules": rules}, indent=1, ensure_ascii=False))
        return FAILED if failed else OK
    for finding in findings:
        condition = f" If {finding.condition}." if finding.condition else ""
        print(f"{finding.id} CAT {CATEGORIES[finding.rule.severity]} {finding.verdict}: {finding.rule.title}")
        print("".join(f"    {line}\n" for line in (finding.text + condition, *finding.evidence)), end="")
    for category, by_verdict in counts(findings).items():
        print(f"{category}: {', '.join(f'{number} {verdict}' for verdict, number in by_verdict.items())}")
    return FAILED if failed else OK


def _machine(
    arguments: argparse.Namespace, generated: Mapping[str, str] | None = None
) -> tuple[Files | Recorded, Literal["tree", "running", "evidence"]]:
    """Return the machine to examine; in a tree, the `generated` files replace the tree's own."""
    import os

    from trust.evidence import EvidenceError, decode_evidence
    from trust.machine import Files, Recorded

    file = getattr(arguments, "evidence", None)
    documents = _documents(arguments)
    if sum((arguments.tree is not None, arguments.running, file is not None)) != 1:
        raise WrongInput("give what to examine: --tree DIR, --running, or (papers, verify) --evidence FILE")
    if file is not None:
        try:
            return Recorded(decode_evidence(file.read_bytes()), documents), "evidence"
        except (OSError, EvidenceError) as error:
            raise WrongInput(f"{file}: {error}") from error
    if arguments.running:
        if os.geteuid() != 0:
            raise MachineLacks("only root can read the firewall, the policies and sudoers; use sudo")
        return Files(Path("/"), runs=True, documents=documents), "running"
    if not arguments.tree.is_dir():
        raise WrongInput(f"{arguments.tree}: is not a directory; give the root directory of a system")
    if not any((arguments.tree / name).is_file() for name in ("usr/lib/os-release", "etc/os-release")):
        raise WrongInput(f"{arguments.tree}: has no os-release; give the root directory of a system")
    return Files(arguments.tree, runs=False, own=generated, documents=documents), "tree"


def _documents(arguments: argparse.Namespace) -> dict[str, str]:
    given = {kind: getattr(arguments, kind, None) for kind in ("proof", "hardening", "sbom")}
    try:
        return {kind: file.read_text("utf-8") for kind, file in given.items() if file}
    except (OSError, UnicodeDecodeError) as error:
        raise WrongInput(f"a document cannot be read: {error}") from error
