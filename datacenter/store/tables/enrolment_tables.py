"""The tables of enrolment: issued certificates, requests that need a person's decision, and the deny-list."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, Table, Text


def enrolment_tables(metadata: MetaData) -> tuple[Table, Table, Table, Table]:
    """Define the tables `certificates`, `enrolments`, `denied_boxes` and `denied_instruments`."""
    certificates = Table(
        "certificates",
        metadata,
        Column("serial_number", Text, primary_key=True),  # hexadecimal
        Column("box", Text, nullable=False),
        Column("key", Text, nullable=False),  # SHA-256 of the public key (SubjectPublicKeyInfo), hexadecimal
        Column("cause", Text, nullable=False),  # of `datacenter.enrolment.registration.Cause`
        Column("issued_at_ms", BigInteger, nullable=False),
        Column("expires_at_ms", BigInteger, nullable=False),
        Column("certificate", LargeBinary, nullable=False),  # DER
        Column("instrument", Text, nullable=False, server_default=""),  # behind the box; "": the box itself
        Index("certificates_of_box", "box", "issued_at_ms"),
    )
    enrolments = Table(
        "enrolments",
        metadata,
        Column("box", Text, primary_key=True),
        Column("key", Text, primary_key=True),  # as in `certificates`
        Column("reason", Text, nullable=False),  # of `datacenter.enrolment.registration.Reason`
        Column("state", Text, nullable=False),  # "waiting", "approved", "rejected" or "issued"
        Column("asked_at_ms", BigInteger, nullable=False),
        Column("seen_at_ms", BigInteger, nullable=False),  # last
        Column("decided_by", Text),
        Column("decided_at_ms", BigInteger),
        Column("instrument", Text, nullable=False, server_default=""),  # as in `certificates`
    )
    denied_boxes = _denials("denied_boxes", metadata, "box")
    return (
        certificates,
        enrolments,
        denied_boxes,
        _denials("denied_instruments", metadata, "box", "instrument"),
    )


def _denials(name: str, metadata: MetaData, *keys: str) -> Table:
    """Define a table of the deny-list, with the person who made each entry and the reason."""
    return Table(
        name,
        metadata,
        *(Column(key, Text, primary_key=True) for key in keys),
        Column("denied_at_ms", BigInteger, nullable=False),
        Column("denied_by", Text, nullable=False),
        Column("reason", Text, nullable=False),
    )
