"""Papers of boxes for programs: their state, filing of papers and evidence, and download."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from starlette.responses import Response

from datacenter.papers.filed import papers_of
from datacenter.web.api.json_responses import PREFIX, json_response
from datacenter.web.files.downloads import BINARY
from datacenter.web.files.filed_papers import download, file_papers
from datacenter.web.routes import NoParameters, PageRequest, WebRoute

_PAPERS: Final = f"{PREFIX}/boxes/{{box}}/papers"


class ApiPaper(Struct, frozen=True):
    """A file of the papers, or the evidence; `size` is in bytes."""

    name: str
    title: str
    size: int
    sha256: str
    stored_at_ms: int
    stored_by: str


class ApiDeviation(Struct, frozen=True):
    """A fact that differs between papers and evidence; `machine` is null if the evidence does not contain it."""

    fact: str
    statements: list[str]
    papers: list[str]
    machine: list[str] | None


class ApiPapers(Struct, frozen=True):
    """The papers of a box, and whether they match its latest evidence; `agrees` is null if one of them is missing."""

    box: str
    files: list[ApiPaper]
    evidence: ApiPaper | None
    answers: dict[str, int]
    """The number of statements by answer."""
    captured_at: str
    """The time at which the evidence was captured: UTC, ISO 8601; empty without evidence."""
    agrees: bool | None
    deviations: list[ApiDeviation]
    altered: list[str]
    """Descriptions of changes of the papers after their creation."""


def show_papers(page: PageRequest) -> Response:
    """Return the papers of a box and their state."""
    return json_response(page, _papers(page))


def upload(page: PageRequest) -> Response:
    """File papers or evidence, and return the state."""
    file_papers(page)
    return json_response(page, _papers(page))


def _papers(page: PageRequest) -> ApiPapers:
    filed = papers_of(page.store, page.names["box"])
    compared = filed.comparison
    return ApiPapers(
        filed.box,
        [ApiPaper(*one) for one in filed.files],
        ApiPaper(*filed.evidence) if filed.evidence else None,
        dict(filed.answers),
        filed.captured_at,
        compared.agrees if compared else None,
        [
            ApiDeviation(one.fact, list(one.statements), list(one.papers), _listed(one.machine))
            for one in (compared.deviations if compared else ())
        ],
        list(compared.altered) if compared else [],
    )


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


ROUTES: Final = (
    WebRoute(
        "GET",
        _PAPERS,
        "view",
        "Box",
        show_papers,
        "the papers of a box, and whether they match its latest evidence",
        NoParameters,
        "api",
        "service",
        ApiPapers,
    ),
    WebRoute(
        "POST",
        _PAPERS,
        "file-papers",
        "Box",
        upload,
        "file papers.zip of `rap trust papers`, or the evidence of `rap trust evidence`, as the body",
        NoParameters,
        "api",
        "service",
        ApiPapers,
        takes_file=True,
        statuses=(408,),
    ),
    WebRoute(
        "GET",
        f"{_PAPERS}/{{paper}}",
        "export",
        "Box",
        download,
        "a file of the papers of a box, or its evidence",
        NoParameters,
        "api",
        "service",
        media=BINARY,
    ),
)
