"""Reads uploaded files: papers.zip of `rap trust papers`, or a file of `rap trust evidence`."""

from __future__ import annotations

import zipfile
from typing import BinaryIO, Final

from trust.evidence import EvidenceError, decode_evidence
from trust.papers import Papers, PapersError, decode_papers

EVIDENCE: Final = "evidence.json"
PAPERS: Final = "papers.json"
FILES_MAX: Final = 40
BYTES_MAX: Final = 64 * 1024 * 1024
"""Maximum total size of an archive's unpacked files."""
_EXTRA: Final = frozenset({"papers.schema.json", "data-flow.svg", "data-flow.pdf"})
"""Files of papers in addition to papers.json and a PDF for each document."""
_ZIP: Final = b"PK\x03\x04"
_ACCEPTED: Final = (
    "send papers.zip of a folder of `rap trust papers`, or the evidence of the box by `rap trust evidence`"
)


class UnusableUploadError(ValueError):
    """The file is neither papers nor evidence; the text says how to correct it."""


def read_upload(content: BinaryIO) -> dict[str, bytes]:
    """Return the files of an upload by name: those of papers, or EVIDENCE alone. Raises: UnusableUploadError."""
    content.seek(0)
    start = content.read(len(_ZIP))
    content.seek(0)
    if start == _ZIP:
        return _read_papers(content)
    data = content.read()
    try:
        evidence = decode_evidence(data)
    except EvidenceError as error:
        raise UnusableUploadError(f"the file {error}; {_ACCEPTED}") from error
    if not evidence:
        raise UnusableUploadError(f"the file has no evidence; {_ACCEPTED}")
    return {EVIDENCE: data}


def _read_papers(content: BinaryIO) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(content) as archive:
            entries = archive.infolist()
            if len(entries) > FILES_MAX or sum(entry.file_size for entry in entries) > BYTES_MAX:
                text = f"at most {FILES_MAX} files of together {BYTES_MAX // 2**20} MiB"
                raise UnusableUploadError(f"papers have {text}; {_ACCEPTED}")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, UnusableUploadError):
            raise
        raise UnusableUploadError(f"the archive is damaged ({error}); {_ACCEPTED}") from error
    if PAPERS not in files:
        raise UnusableUploadError(f"the archive has no {PAPERS}; {_ACCEPTED}")
    try:
        papers = decode_papers(files[PAPERS])
    except PapersError as error:
        raise UnusableUploadError(f"{PAPERS} {error}; {_ACCEPTED}") from error
    if wrong := set(files) ^ names_of(papers):
        state = "has" if min(wrong) in files else "lacks"
        raise UnusableUploadError(
            f"the archive {state} {min(wrong)}, unlike papers of its documents; {_ACCEPTED}"
        )
    return files


def names_of(papers: Papers) -> set[str]:
    """Return the names of the files that papers consist of."""
    return {PAPERS, *_EXTRA, *(f"{document.id}.pdf" for document in papers.documents)}
