"""The papers of a site's boxes: their state, upload of papers and evidence, and download."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from starlette.responses import Response

from datacenter.fleet.boxes import list_boxes
from datacenter.fleet.visible import find_box
from datacenter.papers.filed import papers_of
from datacenter.store.tables.schema import sites
from datacenter.web.files.filed_papers import download, file_papers
from datacenter.web.pages.page import show
from datacenter.web.responses import redirect
from datacenter.web.routes import PageRequest, WebRoute

DEVIATIONS_SHOWN: Final = 30


def papers(page: PageRequest) -> Response:
    """Serve the papers of the boxes of a site."""
    name = page.names["site"]
    (row,) = page.store.read(select(sites).where(sites.c.site == name))
    rows = []
    for box in list_boxes(page.store, page.visible, name):
        resource = find_box(page.store, box.serial)
        assert resource is not None, "the box is in the list"
        may = page.permits("file-papers", resource), page.permits("export", resource)
        rows.append((papers_of(page.store, box.serial), *may))
    return show(page, "papers.html", site=row, rows=rows, deviations_shown=DEVIATIONS_SHOWN)


def upload(page: PageRequest) -> Response:
    """File papers, or evidence, of a box."""
    file_papers(page)
    assert page.resource is not None, "the row names a box"
    return redirect(
        f"/sites/{page.resource.site}/papers" if page.resource.site else f"/boxes/{page.names['box']}"
    )


ROUTES: Final = (
    WebRoute("GET", "/sites/{site}/papers", "view", "Site", papers, "the papers of a site's boxes"),
    WebRoute(
        "POST",
        "/boxes/{box}/papers",
        "file-papers",
        "Box",
        upload,
        "file papers or evidence of a box",
        response_kind="form",
        purpose="service",
        takes_file=True,
    ),
    WebRoute(
        "GET",
        "/boxes/{box}/papers/{paper}",
        "export",
        "Box",
        download,
        "a file of the papers of a box",
        response_kind="file",
    ),
)
