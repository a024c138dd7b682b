"""Papers and evidence of boxes: those of a built image, and small ones for pages that do not show their content."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from datacenter.papers.filed import file_upload
from datacenter.papers.upload import EVIDENCE, read_upload
from datacenter.store.store import Store
from imaging.papers.make import make_papers
from imaging.papers.save import ARCHIVE, save_papers
from tests.support.trust.recorded_tree import recorded_evidence
from trust.evidence import capture, encode_evidence
from trust.machine import Recorded

SSHD = "file:/etc/ssh/sshd_config.d/00-rap.conf"


@cache
def papers_zip() -> bytes:
    """Return the papers of the built image."""
    with TemporaryDirectory() as folder:
        save_papers(make_papers("berlin-1", Recorded(recorded_evidence()), "evidence"), Path(folder))
        return (Path(folder) / ARCHIVE).read_bytes()


def evidence_file(*, with_passwords: bool = False) -> bytes:
    """Return the evidence of that image; `with_passwords`, sshd on the box accepts passwords."""
    evidence = recorded_evidence()
    if with_passwords:
        old, new = "PasswordAuthentication no", "PasswordAuthentication yes"
        evidence = [
            capture(one.kind, one.source, one.text.replace(old, new), one.at) if one.id == SSHD else one
            for one in evidence
        ]
    return encode_evidence(evidence)


def fill_papers(store: Store, now_ms: int) -> None:
    """File the papers of three boxes: one with matching evidence, one with differing evidence, one without."""
    files = read_upload(BytesIO(papers_zip()))
    for box, evidence in (
        ("RAP-0001", evidence_file()),
        ("RAP-0002", evidence_file(with_passwords=True)),
        ("RAP-0003", None),
    ):
        file_upload(store, box, files, "engineer", now_ms - 3_600_000)
        if evidence:
            file_upload(store, box, {EVIDENCE: evidence}, "engineer", now_ms - 1_800_000)
