"""Resources in a database, selected by the WHERE clause that policies compile to."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Column, Connection, MetaData, Table, Text, insert, select

from datacenter.access.language.policy import PolicySet
from datacenter.access.language.sql import Columns, where_permitted
from datacenter.access.request import AccessRequest, Resource
from datacenter.access.vocabulary import LEVELS

ATTRIBUTES = ("model", "severity", "requester", "staff", "change")
resources = Table(
    "listed_resources",
    MetaData(),
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    *(Column(name, Text) for name in (*LEVELS, *ATTRIBUTES)),
)
COLUMNS: Columns = {name: resources.c[name] for name in ("id", *LEVELS, *ATTRIBUTES)}


def fill(connection: Connection, listed: Sequence[Resource]) -> None:
    """Recreate the table with these resources; empty attributes become NULL."""
    resources.metadata.drop_all(connection)
    resources.metadata.create_all(connection)
    names = [column.name for column in resources.columns]
    rows = [{name: getattr(each, name) or None for name in names} for each in listed]
    connection.execute(insert(resources), rows)


def selected(connection: Connection, policies: PolicySet, request: AccessRequest) -> set[str]:
    """Return the ids of the resources of the request's type with which its principal may do its action."""
    kind = request.resource.kind
    clause = where_permitted(policies, request.principal, request.action, kind, request.context, COLUMNS)
    rows = connection.execute(select(resources.c.id).where(resources.c.kind == kind, clause))
    return {row.id for row in rows}
