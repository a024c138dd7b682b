"""Filing papers and evidence of a box, and their download, for pages and the API."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from datacenter.papers.filed import file_upload, read_file
from datacenter.papers.upload import UnusableUploadError, read_upload
from datacenter.web.files.downloads import BINARY, attachment
from datacenter.web.parameters import ParameterError
from datacenter.web.routes import NotFoundError, PageRequest

MEDIA: Final = {"pdf": "application/pdf", "json": "application/json", "svg": "image/svg+xml"}


def file_papers(page: PageRequest) -> None:
    """Store the file of a request. Raises: ParameterError for a file that is neither papers nor evidence."""
    if page.file is None:
        raise ParameterError("choose a file: papers.zip of `rap trust papers`, or the evidence of the box")
    try:
        files = read_upload(page.file.content)
    except UnusableUploadError as error:
        raise ParameterError(str(error)) from error
    file_upload(page.store, page.names["box"], files, page.staff, page.now_ms)


def download(page: PageRequest) -> Response:
    """Return a file of the papers of a box, or its evidence."""
    box, name = page.names["box"], page.names["paper"]
    body = read_file(page.store, box, name)
    if body is None:
        raise NotFoundError
    media = MEDIA.get(name.rpartition(".")[2], BINARY)
    return Response(body, 200, {"content-disposition": attachment(f"{box}-{name}")}, media)
