"""The audit log, for auditors: filters, the verified state of the chain, and CSV export."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

import msgspec
from starlette.responses import Response

from datacenter.access.vocabulary import ACTIONS
from datacenter.audit.chain import AuditEntry
from datacenter.audit.reading import EXPORT_MAX, PAGE_SIZE, AuditFilter, count_audit, list_audit
from datacenter.web.pages.page import PageNumber, Paging, address, show
from datacenter.web.responses import csv_file
from datacenter.web.routes import PageRequest, WebRoute

PATH: Final = "/audit"
SIGN_ACTIONS: Final = ("sign-in", "sign-out", "use-token")
"""Actions in the audit log that are not actions of access policies."""


class AuditQuery(AuditFilter, frozen=True):
    """The filters and the page number."""

    page: PageNumber = 1

    def filters(self) -> AuditFilter:
        """Return only the filters."""
        return msgspec.convert(self, AuditFilter, from_attributes=True)


def audit(page: PageRequest) -> Response:
    """Serve the page of the audit log."""
    query: AuditQuery = page.query
    wanted = query.filters()
    offset = (query.page - 1) * PAGE_SIZE
    return show(
        page,
        "audit.html",
        query=query,
        rows=list_audit(page.store, wanted, PAGE_SIZE, offset=offset),
        paging=Paging(query.page, PAGE_SIZE, count_audit(page.store, wanted)),
        chain=page.services.chain.advance(page.now_ms),
        action_choices=[(name, name) for name in sorted([*ACTIONS, *SIGN_ACTIONS])],
        outcome_choices=[("permitted", "permitted"), ("refused", "refused")],
        to=lambda **changes: address(PATH, query, **{"page": 1, **changes}),
        export=address("/audit.csv", wanted),
        clear=PATH,
        is_filtered=wanted != AuditFilter(),
    )


def export_audit(page: PageRequest) -> Response:
    """Serve the latest records, at most EXPORT_MAX, as CSV, the latest first."""
    names = [field.name for field in fields(AuditEntry)]
    rows = list_audit(page.store, page.query, EXPORT_MAX)
    cells = ([row.number, *(getattr(row.entry, name) for name in names), row.hash] for row in rows)
    return csv_file("audit.csv", ["number", *names, "hash"], cells)


ROUTES: Final = (
    WebRoute("GET", PATH, "read-audit", "Audit", audit, "the audit log", AuditQuery, purpose="audit"),
    WebRoute(
        "GET",
        "/audit.csv",
        "read-audit",
        "Audit",
        export_audit,
        "audit records",
        AuditFilter,
        "file",
        "audit",
        log="export of the log",
    ),
)
