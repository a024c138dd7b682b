"""The audit records of boxes, for auditors: search, the state of the chains, and export."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta, Struct
from starlette.responses import Response

from datacenter.audit.box_lists import ChainKey, RecordKey, count_problems, key_of, list_chains, list_records
from datacenter.audit.boxes import (
    AuditSearch,
    ExportedRecord,
    box_chain_problems,
    export_line,
    exported,
    find_records,
    is_clock_doubtful,
)
from datacenter.audit.reading import VERIFIED_AT_ONCE
from datacenter.store.box_audit import HOLE_MS
from datacenter.web.api.json_responses import Cursor, decode_cursor, encode_cursor
from datacenter.web.pages.commands import Serial
from datacenter.web.pages.page import address, keyset, show
from datacenter.web.parameters import Moment
from datacenter.web.responses import csv_stream, lines_stream
from datacenter.web.routes import Handler, PageRequest, ResponseKind, WebRoute

PATH: Final = "/audit/boxes"
CHAINS: Final = "/audit/chains"
PAGE_SIZE: Final = 50
CHAINS_SIZE: Final = 25
PROBLEMS_SHOWN: Final = 20
Kind: TypeAlias = Literal["line", "audit", "update", "result", "profile", ""]
KINDS: Final[dict[Kind, str]] = {
    "line": "line of the operating system's log",
    "audit": "event of the box",
    "update": "step of an update",
    "result": "result of a command",
    "profile": "profile in force",
}


class BoxAuditFilter(Struct, frozen=True):
    """Selects records; an empty field selects all. Times are by the box's clock."""

    box: Serial = ""
    text: Annotated[str, Meta(max_length=200)] = ""
    kind: Kind = ""
    clock: Literal["doubtful", ""] = ""
    since_ms: Moment | None = None
    until_ms: Moment | None = None

    @property
    def search(self) -> AuditSearch:
        """The search conditions."""
        since_ms = 0 if self.since_ms is None else self.since_ms
        until_ms = 2**53 if self.until_ms is None else self.until_ms
        return AuditSearch(self.box, self.text, since_ms, until_ms, self.kind, self.clock == "doubtful")


class BoxAuditQuery(BoxAuditFilter, frozen=True):
    """The filters; the list has the records before or after the cursor of a record."""

    before: Cursor = ""
    after: Cursor = ""

    @property
    def filters(self) -> BoxAuditFilter:
        """Only the filters."""
        return BoxAuditFilter(
            self.box, self.text, self.kind, self.clock, since_ms=self.since_ms, until_ms=self.until_ms
        )


class ChainsQuery(Struct, frozen=True):
    """Selects the chains of a box, or of all boxes; after the cursor of a chain."""

    box: Serial = ""
    cursor: Cursor = ""


def box_audit(page: PageRequest) -> Response:
    """Serve the search of the records."""
    query: BoxAuditQuery = page.query
    wanted = query.filters

    def fetch(limit: int, before: str | None, after: str | None) -> list[Any]:
        return list_records(page.store, wanted.search, limit, _key(before), _key(after))

    part = keyset(PATH, query, PAGE_SIZE, fetch, lambda record: encode_cursor(key_of(record)))
    return show(
        page,
        "box_audit.html",
        query=query,
        part=part,
        rows=[(record, is_clock_doubtful(record)) for record in part.rows],
        kinds=KINDS,
        broken=count_problems(page.store),
        to=lambda **changes: address(PATH, query, **{"before": "", "after": "", **changes}),
        csv=address(f"{PATH}.csv", wanted),
        lines=address(f"{PATH}.jsonl", wanted),
        chains=address(CHAINS, ChainsQuery(query.box)),
        clear=PATH,
        is_filtered=wanted != BoxAuditFilter(),
    )


def _key(cursor: str | None) -> RecordKey | None:
    return decode_cursor(cursor or "", RecordKey)  # type: ignore[arg-type]


def export_csv(page: PageRequest) -> Response:
    """Serve the records as CSV, by box and number."""
    rows = map(exported, find_records(page.store, page.query.search))
    return csv_stream("box-audit.csv", ExportedRecord._fields, rows)


def export_lines(page: PageRequest) -> Response:
    """Serve the records as JSON lines, with the data by which the chains can be verified without the database."""
    return lines_stream("box-audit.jsonl", map(export_line, find_records(page.store, page.query.search)))


def chains(page: PageRequest) -> Response:
    """Serve the state of the chains as verified on arrival; that of one box also with a new verification."""
    query: ChainsQuery = page.query
    cursor = decode_cursor(query.cursor, ChainKey)  # type: ignore[arg-type]
    listed = list_chains(page.store, query.box, CHAINS_SIZE + 1, cursor)
    rows = listed[:CHAINS_SIZE]
    more = address(CHAINS, query, cursor=encode_cursor(rows[-1][:2])) if len(listed) > len(rows) else None
    is_short = bool(query.box) and sum(chain.records for chain in listed) <= VERIFIED_AT_ONCE and not more
    verified = None
    if is_short and rows:
        verified = list(islice(box_chain_problems(page.store, query.box), PROBLEMS_SHOWN + 1))
    return show(
        page,
        "box_chains.html",
        query=query,
        rows=rows,
        more=more,
        verified=verified,
        problems_shown=PROBLEMS_SHOWN,
        hole_ms=HOLE_MS,
        records=lambda chain, **changes: address(PATH, BoxAuditFilter(chain.box), **changes),
        of_box=lambda box: address(CHAINS, ChainsQuery(box)),
        clear=CHAINS,
    )


def _route(
    path: str, handler: Handler, text: str, parameters: type[Struct], *, log: str, file: bool = False
) -> WebRoute:
    response_kind: ResponseKind = "file" if file else "page"
    return WebRoute(
        "GET", path, "read-audit", "Audit", handler, text, parameters, response_kind, "audit", log=log
    )


_EXPORT: Final = "export of records of boxes"
ROUTES: Final = (
    _route(PATH, box_audit, "audit records of boxes", BoxAuditQuery, log="records of boxes"),
    _route(f"{PATH}.csv", export_csv, "audit records of boxes", BoxAuditFilter, log=_EXPORT, file=True),
    _route(f"{PATH}.jsonl", export_lines, "audit records of boxes", BoxAuditFilter, log=_EXPORT, file=True),
    _route(CHAINS, chains, "the chains of audit records of boxes", ChainsQuery, log="chains of boxes"),
)
