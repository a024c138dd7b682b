"""The page of papers: filing papers and evidence, their comparison, downloads, and wrong files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO

import pytest

from tests.support.datacenter.papers import evidence_file, papers_zip
from tests.support.datacenter.web.client import Answer, WebClient
from trust.papers import decode_papers

PAGE = "/sites/berlin-1/papers"
BOX = "/boxes/RAP-0001/papers"


def upload(client: WebClient, data: bytes, box: str = "RAP-0001") -> Answer:
    """Upload a file of papers or evidence, as the form of the page does."""
    boundary = "a7c1"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="form_token"\r\n\r\n{client.form_token()}\r\n',
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="one"\r\n\r\n',
    ]
    body = "".join(parts).encode() + data + f"\r\n--{boundary}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={boundary}"}
    return client.request("POST", f"/boxes/{box}/papers", body, kind)


def archive(**files: bytes) -> bytes:
    """Return a ZIP archive of files by name, in which `__` stands for a dot."""
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as written:
        for name, data in files.items():
            written.writestr(name.replace("__", "."), data)
    return content.getvalue()


def test_papers_match_the_machine_until_it_is_changed(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    assert upload(engineer, papers_zip()).status == 303
    assert "No evidence of the box is filed" in engineer.get(PAGE).text
    assert upload(engineer, evidence_file()).status == 303
    text = engineer.get(PAGE).text
    assert "Matches the machine as of" in text and "differ from the machine" not in text
    assert upload(engineer, evidence_file(with_passwords=True)).status == 303
    text = engineer.get(PAGE).text
    assert "facts differ from the machine as of" in text and "ssh.password-login" in text
    assert "Matches the machine" not in text


def test_papers_are_downloaded_as_they_were_made(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    upload(engineer, papers_zip())
    with zipfile.ZipFile(BytesIO(papers_zip())) as original:
        for name in original.namelist():
            answer = engineer.get(f"{BOX}/{name}")
            assert answer.status == 200 and answer.body == original.read(name)
            assert answer.headers["content-disposition"].startswith("attachment")
        assert len(decode_papers(engineer.get(f"{BOX}/papers.json").body).documents) + 4 == len(
            original.namelist()
        )
    assert engineer.get(f"{BOX}/papers.json").headers["content-type"] == "application/json"
    assert engineer.get(f"{BOX}/mds2.pdf").headers["content-type"] == "application/pdf"
    assert engineer.get(f"{BOX}/other.pdf").status == 404


def test_papers_replace_earlier_ones_and_leave_the_evidence(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    upload(engineer, evidence_file())
    upload(engineer, papers_zip())
    upload(engineer, papers_zip())
    assert engineer.get(f"{BOX}/evidence.json").body == evidence_file()
    assert "Matches the machine" in engineer.get(PAGE).text


def test_the_right_to_view_does_not_permit_filing_or_downloading(changing: WebClient) -> None:
    viewer = changing.sign_in("observer")
    assert "Papers of Klinikum Nord" in viewer.get(PAGE).text
    assert '<input type="file"' not in viewer.get(PAGE).text
    assert upload(viewer, evidence_file()).status == 403
    assert viewer.get(f"{BOX}/papers.json").status == 403
    assert upload(changing.sign_in("european"), evidence_file(), "RAP-0003").status == 404
    assert upload(changing.sign_in("auditor"), evidence_file()).status == 403


def test_filing_and_each_download_are_recorded(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    upload(engineer, papers_zip())
    for _ in range(2):
        engineer.get(f"{BOX}/mds2.pdf")
    records = [(one.action, one.resource, one.outcome) for one in changing.entries]
    assert records.count(("file-papers", "RAP-0001", "permitted")) == 1
    assert records.count(("export", "RAP-0001", "permitted")) == 2


def test_a_text_of_the_papers_that_was_altered_is_shown(changing: WebClient) -> None:
    engineer = changing.sign_in("engineer")
    with zipfile.ZipFile(BytesIO(papers_zip())) as original:
        files = {name: original.read(name) for name in original.namelist()}
    files["papers.json"] = files["papers.json"].replace(b'"answer": "not shown"', b'"answer": "yes"', 1)
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        for name, data in files.items():
            written.writestr(name, data)
    upload(engineer, content.getvalue())
    upload(engineer, evidence_file())
    assert "were altered after their creation" in engineer.get(PAGE).text


API = "/api/v1/boxes/RAP-0001/papers"
AS_FILE = {"content-type": "application/octet-stream"}


def test_a_program_files_papers_and_evidence_and_reads_what_differs(changing: WebClient) -> None:
    program = changing.sign_in("engineer").program("service")
    filed = program.request("POST", API, papers_zip(), AS_FILE)
    assert filed.status == 200, filed.text
    assert json.loads(filed.body)["agrees"] is None
    agrees = json.loads(program.request("POST", API, evidence_file(), AS_FILE).body)
    assert (agrees["agrees"], agrees["deviations"]) == (True, [])
    assert agrees["evidence"]["sha256"] == sha256(evidence_file()).hexdigest()
    program.request("POST", API, evidence_file(with_passwords=True), AS_FILE)
    differs = json.loads(program.get(API).body)
    assert differs["agrees"] is False
    (deviation,) = differs["deviations"]
    assert deviation["fact"] == "ssh.password-login"
    assert (deviation["papers"], deviation["machine"]) == (["no"], ["yes"])
    paper = program.get(f"{API}/mds2.pdf")
    assert (paper.status, paper.body[:5]) == (200, b"%PDF-")
    assert ("file-papers", "RAP-0001", "permitted") in [
        (entry.action, entry.resource, entry.outcome) for entry in changing.entries
    ]


def test_a_program_has_the_rights_of_its_owner_and_can_file_only_valid_papers(changing: WebClient) -> None:
    viewer = changing.sign_in("observer").program("service")
    assert viewer.request("POST", API, evidence_file(), AS_FILE).status == 403
    program = changing.sign_in("engineer").program("service")
    before = program.get(API).body
    wrong = program.request("POST", API, b"{}", AS_FILE)
    assert wrong.status == 400 and "the file has no evidence" in wrong.text
    assert program.get(API).body == before


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "is not a file of `rap trust evidence`"),
    "another JSON": (lambda: b"{}", "the file has no evidence"),
    "evidence that was changed": (
        lambda: evidence_file().replace(b"PasswordAuthentication no", b"PasswordAuthentication ok", 1),
        "was changed after it was captured",
    ),
    "an archive without papers": (lambda: archive(notes__txt=b"x"), "the archive has no papers.json"),
    "papers that are none": (
        lambda: archive(papers__json=b"{}"),
        "papers.json is not a file of `rap trust papers`",
    ),
    "a damaged archive": (lambda: papers_zip()[:2_000], "the archive is damaged"),
    "half of the papers": (
        lambda: archive(papers__json=zipfile.ZipFile(BytesIO(papers_zip())).read("papers.json")),
        "the archive lacks",
    ),
    "too much": (lambda: archive(papers__json=bytes(65 * 2**20)), "of together 64 MiB"),
}
"""Functions that make wrong files, and a part of the error. Making papers takes a second, so each test does it."""


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_refused_and_changes_nothing(changing: WebClient, wrong: str) -> None:
    engineer = changing.sign_in("engineer")
    make, text = WRONG[wrong]
    before = engineer.get(PAGE).text
    answer = upload(engineer, make())
    assert answer.status == 400 and text.lower() in answer.text.replace("&#39;", "'").lower()
    assert engineer.get(PAGE).text == before
