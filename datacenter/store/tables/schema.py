"""The database tables, with types that SQLite and PostgreSQL share.

`coverage` has the stored numbers of each stream (`datacenter.store.batches.coverage`), so that no unique key on
`records` is needed for either identity of a record:

* (box, epoch, sequence), assigned by the box: a batch whose response was lost is sent again under the same identity.
* (box, instrument, run, number), assigned by the instrument: a box whose high-water marks were damaged may accept a
  report twice, with two sequences. Records of the box itself have the number NULL.

`records` has the rows of `datacenter.store.batches.rows`. On PostgreSQL it is partitioned by the day on which a row
was stored (`datacenter.store.tables.partitions`). Times are in milliseconds since 1970: those of reports and of
boxes' records (`since_ms`, `at_ms`), and what follows from them, by the reporter's clock, all others by the data
center's.

A change here needs a revision in `datacenter/store/migrations/versions/` that makes the same change to an existing
database.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from datacenter.store.tables.append_only import make_append_only
from datacenter.store.tables.enrolment_tables import enrolment_tables

metadata = MetaData()

REVISION: Final = "0022"
"""The revision whose migration creates these tables."""

boxes = Table(
    "boxes",
    metadata,
    Column("serial", Text, primary_key=True),
    Column("enrolled_at_ms", BigInteger, nullable=False),
    Column("dismissed_at_ms", BigInteger),  # if set, the box is no longer authorized; its records are kept
    Column("site", Text),  # of `sites`; unknown until the fleet's file names it
    Column("shard", Text),  # whose database has its reports (`datacenter.store.shards`); NULL: this database
)

sites = Table(
    "sites",
    metadata,
    Column("site", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("country", Text, nullable=False),  # ISO 3166-1, two letters
    Column("region", Text, nullable=False),
    Column("zone", Text, nullable=False),  # of the IANA time zone database
    Column("latitude", Float),  # degrees
    Column("longitude", Float),
)

instruments = Table(
    "instruments",
    metadata,
    Column("box", Text, primary_key=True),
    Column("serial", Text, primary_key=True),
    Column("model", Text),  # as the box reported it; unknown before
    Column("profile_version", BigInteger),
    Column("port", Integer),  # of the box; unknown before the box has reported it
    Column("run", BigInteger, nullable=False),  # of the latest evaluated report, as the following columns
    Column("number", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
    Column("state", Text),  # of the latest status
    Column("samples", BigInteger),
    Column("readings", LargeBinary),  # of the latest status, in MessagePack
    Column("evaluation", LargeBinary, nullable=False),  # the state of its triggers
    Index("instruments_of_model", "model"),
)

evaluated = Table(
    "evaluated",
    metadata,
    Column("box", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, nullable=False),  # all records up to this one are evaluated
    Column("moved_at_ms", BigInteger, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Text, primary_key=True),  # follows from box, instrument, trigger, run and number
    Column("box", Text, nullable=False),
    Column("instrument", Text, nullable=False),  # empty if the box itself is silent
    Column("model", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("trigger_hash", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("component", Text, nullable=False),
    Column("run", BigInteger, nullable=False),  # of the report with which it began
    Column("number", BigInteger, nullable=False),
    Column("began_at_ms", BigInteger, nullable=False),
    Column("raised_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("end_run", BigInteger),
    Column("end_number", BigInteger),
    Column("acknowledged_at_ms", BigInteger),
    Column("acknowledged_by", Text),
    Column("evidence", LargeBinary, nullable=False),  # in MessagePack
    Column("text", Text),  # of the trigger, as the next column; unknown for alerts of earlier versions
    Column("parts", Text),  # one per line
    Column("resolved_at_ms", BigInteger),  # when its end was stored
    Column("silenced_at_ms", BigInteger),
    Column("silenced_until_ms", BigInteger),  # no notice that it was raised is sent before
    Column("silenced_by", Text),
    Column("silence_reason", Text),
    Column("maintenance", Text),  # the window that silenced it, if one did
    Index("alerts_of_instrument", "box", "instrument", "began_at_ms"),
    Index("alerts_open", "ended_at_ms", "began_at_ms"),
)

maintenance = Table(
    "maintenance",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # "site", "box" or "instrument"
    *(
        Column(name, Text, nullable=False) for name in ("site", "box", "instrument")
    ),  # empty if the kind does not have it
    Column("from_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("covers_critical", Integer, nullable=False),  # 1 if critical alerts are silenced, too
    Column("reason", Text, nullable=False),
    Column("planned_by", Text, nullable=False),
    Column("planned_at_ms", BigInteger, nullable=False),
    Column("ended_by", Text),  # who ended it before its time
    Index("maintenance_until", "until_ms"),
)

silence_state = Table(
    "silence_state",
    metadata,
    Column("box", Text, primary_key=True),  # empty in the row of the data center itself
    Column("instrument", Text, primary_key=True),  # empty in the row of the box itself
    Column("last_seen_ms", BigInteger, nullable=False),  # its latest report; of a box, its latest contact
    Column("box_ms", BigInteger),  # of a box: the time of its latest record
    Column("counts_from_ms", BigInteger),  # of a box: silence before this time does not count
    Column("run", BigInteger, nullable=False, default=0),  # of the latest report
    Column("number", BigInteger, nullable=False, default=0),
    Column("model", Text),
    Column("silent_ms", BigInteger),  # since when it counts as silent, if it does
    Column("alert", Text),  # of this silence
)

notices = Table(
    "notices",
    metadata,
    Column("alert", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # "raised" or "resolved"
    Column("created_at_ms", BigInteger, nullable=False),
    Column("routed_at_ms", BigInteger),  # when its deliveries were made
    Index("notices_unrouted", "routed_at_ms", "created_at_ms"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("alert", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("state", Text, nullable=False),  # of `datacenter.notices.outbox`
    Column("attempts", Integer, nullable=False),
    Column("alone", Integer, nullable=False),  # 1 if a message with others was refused
    Column("created_at_ms", BigInteger, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    Column("claim", Text),  # of the process that sends it
    Column("problem", Text),  # why the latest attempt failed
    Index("deliveries_of_target", "target", "state", "created_at_ms"),
)

notice_targets = Table(
    "notice_targets",
    metadata,
    Column("target", Text, primary_key=True),
    Column("claim", Text),  # of the process that has the lease
    Column("leased_until_ms", BigInteger, nullable=False),
    Column("next_at_ms", BigInteger, nullable=False),  # the next message is not sent before
    Column("failures", Integer, nullable=False),  # since the latest message that was sent
)

chunks = Table(
    "chunks",
    metadata,
    Column("box", Text, primary_key=True),
    Column("instrument", Text, primary_key=True),
    Column("day", Integer, primary_key=True),  # days since 1970, by the instrument's clock
    Column("statuses", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

changed_days = Table(
    "changed_days",
    metadata,
    Column("day", Integer, primary_key=True),  # as in `chunks`; its statuses are to be counted (again)
    Column("box", Text, primary_key=True),
    Column("instrument", Text, primary_key=True),
    sqlite_with_rowid=False,
)

base_instruments = Table(
    "base_instruments",
    metadata,
    Column("box", Text, primary_key=True),
    Column("instrument", Text, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("model", Text, nullable=False),  # as it was counted, as are country and region
    Column("country", Text),
    Column("region", Text),
    Column("body", LargeBinary, nullable=False),  # histograms of its readings (`datacenter.base.histogram`)
    sqlite_with_rowid=False,
)

base_days = Table(
    "base_days",
    metadata,
    Column("model", Text, primary_key=True),
    Column("reading", Text, primary_key=True),
    Column("place", Text, primary_key=True),  # "everywhere", "country/DE", "region/europe"
    Column("day", Integer, primary_key=True),
    Column("instruments", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the histogram
    sqlite_with_rowid=False,
)

base_snapshots = Table(
    "base_snapshots",
    metadata,
    Column("model", Text, primary_key=True),
    Column("day", Integer, primary_key=True),  # on which triggers compare with it
    Column("body", LargeBinary, nullable=False),  # the percentiles; never changed
)

coverage = Table(
    "coverage",
    metadata,
    Column("box", Text, primary_key=True),
    Column("stream", Text, primary_key=True),  # of the box itself if empty, else of an instrument
    Column("life", BigInteger, primary_key=True),  # epoch or run
    Column("stored", LargeBinary, nullable=False),
    Column("lost", LargeBinary),  # gaps that the box reported in its own stream
    sqlite_with_rowid=False,
)

records = Table(
    "records",
    metadata,
    Column("box", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("sequence", BigInteger, primary_key=True),
    Column(
        "stored_at_ms", BigInteger, primary_key=True
    ),  # PostgreSQL requires the partition column in the key
    Column("instrument", Text, nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("number", BigInteger),
    Column("kind", Text, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("record_count", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("records_of_instrument", "box", "instrument", "at_ms"),
    Index("records_of_kind", "kind", "at_ms"),
    sqlite_with_rowid=False,  # stores rows in the tree of the primary key: one tree less to write for each record
    postgresql_partition_by="RANGE (stored_at_ms)",
)

commands = Table(
    "commands",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("box", Text, ForeignKey("boxes.serial"), nullable=False),
    Column("instrument", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("delivered_count", Integer, nullable=False, default=0),  # how often it was sent to the box
    Column("due_at_ms", BigInteger, nullable=False),
    Column("outcome", Text),  # as reported
    Column("closed_at_ms", BigInteger),
    Column("state", Text, nullable=False, server_default="queued"),  # see datacenter/store/command_states.py
    Column("ending", Text),  # requested, but not confirmed by the box: "withdrawn" or "expired"
    Column("expires_at_ms", BigInteger),
    Column("delivered_at_ms", BigInteger),
    Column("executing_at_ms", BigInteger),
    Column("requester", Text, nullable=False, server_default=""),
    Column("purpose", Text, nullable=False, server_default=""),
    Column("approved_by", Text),
    Column("approved_at_ms", BigInteger),
    Column("file", Text),  # hash of the file to or from the instrument
    Column("file_bytes", BigInteger),
    Column(
        "transferred_bytes", BigInteger, nullable=False, server_default="0"
    ),  # between box and data center
    Column("file_name", Text, nullable=False, server_default=""),  # as the sender has it; empty if unknown
    Column("request_key", Text),  # the requester's name of the request, by which a repeated one is detected
    Index("commands_waiting", "box", "state", "due_at_ms"),
    Index("commands_of_request", "requester", "request_key", unique=True),
    Index("commands_of_file", "file"),
    sqlite_autoincrement=True,  # numbers are never reused, as in PostgreSQL
)

files = Table(
    "files",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
)

file_parts = Table(
    "file_parts",
    metadata,
    Column(
        "file", Text, primary_key=True
    ),  # hash, or "upload-" and the number of a command until it is verified
    Column("position", BigInteger, primary_key=True),  # of its first byte
    Column("body", LargeBinary, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, … without gaps
    Column("at_ms", BigInteger, nullable=False),
    *(
        Column(name, Text, nullable=False)
        for name in (
            "actor",
            "token",
            "action",
            "kind",
            "resource",
            "place",
            "purpose",
            "outcome",
            "policy",
            "reason",
        )
    ),
    Column("previous", Text, nullable=False),  # hash of the record before
    Column("hash", Text, nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column(
        "id", Integer, primary_key=True, autoincrement=False
    ),  # 1: there is one row, which appending locks
    Column("number", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
)

make_append_only(audit_head)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sha256", Text, nullable=False, unique=True),  # of the secret
    *(Column(name, Text, nullable=False) for name in ("owner", "purpose", "actions", "scope")),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger),
)

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("sha256", Text, primary_key=True),  # of the cookie
    Column("staff", Text, nullable=False),
    Column("signed_in_at_ms", BigInteger, nullable=False),
    Column("ends_at_ms", BigInteger, nullable=False, index=True),
    Column("way", Text, nullable=False),  # how the person has signed in
    Column("settings", Text, nullable=False),  # hash of the provider's settings; empty without a provider
    Column("claimed", Text),  # the provider's claims about the person (JSON)
    Column("id_token", Text, nullable=False),  # to end the provider's session; empty without a provider
    Column("state_sha256", Text, unique=True),  # of the sign-on that has opened the session
)

staff_sign_ins = Table(
    "staff_sign_ins",
    metadata,
    Column("staff", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),  # of the newest sign-in
    Column("before_ms", BigInteger),  # of the one before
)

remote_sessions = Table(
    "remote_sessions",
    metadata,
    Column("id", Text, primary_key=True),  # of the offer, in hexadecimal digits
    *(
        Column(name, Text, nullable=False)
        for name in ("box", "instrument", "staff", "role", "purpose", "mode", "service", "reason", "ticket")
    ),
    Column("port", Integer, nullable=False),  # of the box
    Column("tcp_port", Integer, nullable=False),  # of the instrument
    Column("requested_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # of `wire.session.table`
    Column("cause", Text, nullable=False, server_default=""),  # of the end
    Column("opened_at_ms", BigInteger),
    Column("ended_at_ms", BigInteger),
    Column("request_key", Text),  # as in `commands`
    Column("recording_head", LargeBinary),  # signed; NULL without a complete recording
    Column("recording_deleted_at_ms", BigInteger),
    Index("remote_sessions_of_instrument", "box", "instrument", "requested_at_ms"),
    Index("remote_sessions_requested", "requested_at_ms", "id"),
    Index("remote_sessions_of_request", "staff", "request_key", unique=True),
)

session_notes = Table(
    "session_notes",
    metadata,
    Column("session", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, …
    Column("at_ms", BigInteger, nullable=False),
    Column("staff", Text, nullable=False),
    Column("text", Text, nullable=False),
)

box_audit = Table(
    "box_audit",
    metadata,
    Column("box", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column(
        "hash", LargeBinary, primary_key=True
    ),  # two records with one number are a problem, and are both kept
    Column("sequence", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("line", LargeBinary),  # identifies a line of a log
    Column("is_repeated", Integer, nullable=False),  # 1 if the line is already stored
    Column("entry", LargeBinary, nullable=False),  # as the box encoded it
    Index("box_audit_line", "box", "line"),
    Index("box_audit_at", "at_ms"),
)

box_chains = Table(
    "box_chains",
    metadata,
    Column("box", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("number", BigInteger, nullable=False),  # of the verified head
    Column("hash", LargeBinary, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("waiting_since_ms", BigInteger),
    Column("forwarded", BigInteger, nullable=False, server_default="0"),  # the last record sent to the SIEM
    Column(
        "signed_number", BigInteger, nullable=False, server_default="0"
    ),  # of the newest countersigned head
    Column("signed", LargeBinary),  # that head, as the box has it (`wire.audit_head`)
    Column("removed", BigInteger, nullable=False, server_default="0"),  # last record removed by retention
    Column("removed_hash", LargeBinary),  # of that record
)

box_audit_problems = Table(
    "box_audit_problems",
    metadata,
    Column("box", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("problem", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)

box_papers = Table(
    "box_papers",
    metadata,
    Column("box", Text, primary_key=True),
    Column("name", Text, primary_key=True),  # of the file: papers.json, a PDF, evidence.json
    Column("body", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
    Column("staff", Text, nullable=False),
)

siem_cursors = Table(
    "siem_cursors",
    metadata,
    Column("log", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),  # the last record of the log sent to the SIEM
)

box_keys = Table(
    "box_keys",
    metadata,
    Column("box", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # public, PEM: of the certificate with which the box has connected
    Column("used_from_ms", BigInteger, nullable=False),
)

box_releases = Table(
    "box_releases",
    metadata,
    Column("box", Text, primary_key=True),
    Column(
        "running", BigInteger, nullable=False
    ),  # number of the release, as the box reported it; 0 if unknown
    Column("data", BigInteger, nullable=False),  # the same of the latest release of kind "data"
    Column("slot_sha256", Text, nullable=False),
    Column("other_sha256", Text, nullable=False),
    Column("follows", BigInteger, nullable=False),  # the order that the box follows; 0 if none
    Column("told", BigInteger, nullable=False),  # the order of the latest response, which may have been lost
    Column("asked_at_ms", BigInteger, nullable=False),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("release", BigInteger, nullable=False),  # its number
    *(Column(name, Text, nullable=False) for name in ("name", "kind")),  # of the release
    *(Column(name, Text, nullable=False) for name in ("site", "country", "region")),  # empty if not limited
    Column("plan", Text, nullable=False),  # `datacenter.releases.plan.RolloutPlan` in JSON
    *(Column(name, Text, nullable=False) for name in ("requester", "purpose")),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # of `datacenter.releases.states`
    Column("reason", Text, nullable=False, server_default=""),  # of the latest change of the state
    Column("wave", Integer, nullable=False, server_default="0"),  # the one that runs; 0 is the first
    Column("wave_began_at_ms", BigInteger),
    Column("approved_by", Text),
    Column("approved_at_ms", BigInteger),
    Column("changed_at_ms", BigInteger, nullable=False),
    Index("rollouts_in_state", "state"),
    sqlite_autoincrement=True,
)

update_orders = Table(
    "update_orders",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # the order's number
    Column("rollout", BigInteger, ForeignKey("rollouts.id"), nullable=False),
    Column("box", Text, ForeignKey("boxes.serial"), nullable=False),
    Column("release", BigInteger, nullable=False),
    Column("wave", Integer, nullable=False),
    Column("joined_at_ms", BigInteger, nullable=False),
    Column("ordered_at_ms", BigInteger),  # NULL until its wave runs
    Column("deadline_ms", BigInteger),
    Column("step", Text),  # the furthest that the box has reported, as the following columns
    Column("rank", Integer, nullable=False, server_default="0"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("step_at_ms", BigInteger),
    Column("ending", Text),  # by the data center: "silent", "withdrawn" or "present"
    Column("ended_at_ms", BigInteger),
    Index("update_orders_of_rollout", "rollout", "box", unique=True),
    Index("update_orders_of_box", "box", "release"),
    sqlite_autoincrement=True,
)

_O = update_orders.c
Index(
    "update_orders_open",
    _O.box,
    unique=True,  # a box has one order at a time
    sqlite_where=_O.ordered_at_ms.is_not(None) & _O.ended_at_ms.is_(None),
    postgresql_where=_O.ordered_at_ms.is_not(None) & _O.ended_at_ms.is_(None),
)

certificates, enrolments, denied_boxes, denied_instruments = enrolment_tables(metadata)
