"""Database triggers that make the audit log append-only, unless they are dropped.

They prevent changes by program errors and accidental statements. An administrator of the database can remove them;
the hash chain of `datacenter.audit.chain` reveals a change made afterwards.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import DDL, Connection, Table, event

_SQLITE: Final = (
    "CREATE TRIGGER audit_update BEFORE UPDATE ON audit"
    " BEGIN SELECT RAISE(ABORT, 'audit records cannot be changed'); END",
    "CREATE TRIGGER audit_delete BEFORE DELETE ON audit"
    " BEGIN SELECT RAISE(ABORT, 'audit records cannot be removed'); END",
    "CREATE TRIGGER audit_insert BEFORE INSERT ON audit"
    " WHEN EXISTS (SELECT 1 FROM audit WHERE number >= NEW.number)"
    " BEGIN SELECT RAISE(ABORT, 'audit records are appended'); END",
    "CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head WHEN NEW.number <= OLD.number"
    " BEGIN SELECT RAISE(ABORT, 'the audit log cannot become shorter'); END",
    "CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head"
    " BEGIN SELECT RAISE(ABORT, 'the head of the audit log cannot be removed'); END",
)
_POSTGRESQL: Final = (
    "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'audit records cannot be changed or removed'; END $$",
    "CREATE FUNCTION audit_head_grows() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN IF NEW.number <= OLD.number THEN RAISE EXCEPTION 'the audit log cannot become shorter'; END IF;"
    " RETURN NEW; END $$",
    "CREATE TRIGGER audit_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_grows()",
    "CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_head_truncate BEFORE TRUNCATE ON audit_head"
    " FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
)


TRIGGERS: Final = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
"""The statements for each kind of database, after both tables exist."""


def make_append_only(after: Table) -> None:
    """Register the creation of the triggers after the table `after`, which must be created last of the two tables."""

    def create(_: Table, connection: Connection, **_options: Any) -> None:
        for statement in TRIGGERS[connection.dialect.name]:
            connection.execute(DDL(statement))  # type: ignore[no-untyped-call]

    event.listen(after, "after_create", create)
