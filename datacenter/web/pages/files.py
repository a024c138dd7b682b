"""The complete files in the data center: those that were sent to instruments, and those that instruments sent."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from starlette.responses import Response

from datacenter.commands.desk import StaffActor
from datacenter.commands.listing import CommandFilter, Direction, FileKey, FileRow
from datacenter.web.api.json_responses import Cursor, decode_cursor, encode_cursor
from datacenter.web.desks import command_desk
from datacenter.web.pages.commands import PAGE_SIZE, PURPOSE, Serial
from datacenter.web.pages.page import address, keyset, show
from datacenter.web.routes import PageRequest, WebRoute

PATH: Final = "/files"
DIRECTIONS: Final[dict[Direction, str]] = {
    "to-instrument": "to the instrument",
    "from-instrument": "from the instrument",
}


class FilesQuery(Struct, frozen=True):
    """The filters; the list has the files before or after the cursor of a file."""

    direction: Direction | None = None
    instrument: Serial = ""
    box: Serial = ""
    before: Cursor = ""
    after: Cursor = ""


def files(page: PageRequest) -> Response:
    """Serve the list of files."""
    query: FilesQuery = page.query
    actor = StaffActor(page.staff, PURPOSE)
    wanted = CommandFilter(query.box, query.instrument, direction=query.direction)
    with command_desk(page) as desk:

        def fetch(limit: int, before: str | None, after: str | None) -> list[FileRow]:
            return desk.list_files(actor, page.now_ms, wanted, limit, _key(before), _key(after))

        part = keyset(PATH, query, PAGE_SIZE, fetch, lambda row: encode_cursor(row.key))
        rows = [(row, desk.may_download(actor, row.command, page.now_ms)) for row in part.rows]
    return show(
        page,
        "files.html",
        query=query,
        rows=rows,
        part=part,
        directions=DIRECTIONS,
        is_filtered=bool(query.direction or query.instrument or query.box),
        clear=address(PATH, FilesQuery()),
    )


def _key(cursor: str | None) -> FileKey | None:
    return decode_cursor(cursor or "", tuple[int, str])


ROUTES: Final = (WebRoute("GET", PATH, "view", "", files, "files", FilesQuery),)
