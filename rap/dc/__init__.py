"""`rap dc`: the data center."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rap.dc.alert import add_alert
from rap.dc.base import add_base
from rap.dc.command import add_command
from rap.dc.enrolment import add_enrolment
from rap.dc.maintenance import add_maintenance
from rap.dc.papers import add_papers
from rap.dc.retention import add_retention
from rap.dc.rollout import add_rollout
from rap.dc.shard import add_shard
from rap.dc.store import database_errors
from rap.dc.token import add_verbs as add_token_verbs
from rap.dc.visit import add_visit
from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap dc`."""
    serve = parser.add_command("serve", "receive and store reports until SIGTERM")
    serve.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    serve.add_argument(
        "--check", action="store_true", help="only check the configuration and the certificate"
    )
    serve.set_command(_serve)
    migrate = parser.add_command("migrate", "create or upgrade the database's tables")
    migrate.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    migrate.add_argument(
        "--check", action="store_true", help="change nothing; exit status 1 if an upgrade is needed"
    )
    migrate.set_command(_migrate)
    add_base(parser.add_command("base", "the installed base of several regions"))
    add_retention(parser.add_command("retention", "delete data after its retention time"))
    _add_demo(parser.add_command("demo", "serve the pages with a simulated fleet, on this machine only"))
    _add_audit(parser.add_command("audit", "the audit log"))
    add_command(parser.add_command("command", "commands and files for instruments"))
    add_alert(parser.add_command("alert", "alerts of instruments and boxes"))
    add_visit(parser)
    add_maintenance(parser.add_command("maintenance", "planned windows in which alerts are silenced"))
    add_enrolment(
        parser.add_command("enrolment", "certificates of boxes, requests for them, and the deny-list")
    )
    add_papers(parser.add_command("papers", "papers and evidence of boxes, as filed"))
    add_rollout(parser.add_command("rollout", "rollouts of releases in waves"))
    add_shard(parser.add_command("shard", "PostgreSQL servers over which boxes are distributed"))
    add_token_verbs(parser.add_command("token", "API tokens of programs"))


def _add_demo(demo: Parser) -> None:
    demo.add_argument(
        "--instruments", metavar="N", type=int, default=200, help="number of instruments (default: 200)"
    )
    demo.add_argument("--days", metavar="D", type=int, default=90, help="days of history (default: 90)")
    demo.add_argument(
        "--speed",
        metavar="X",
        type=float,
        default=20.0,
        help="speed of simulated time, as a multiple of real time (default: 20)",
    )
    demo.add_argument(
        "--port", metavar="P", type=int, default=8080, help="TCP port of the pages (default: 8080)"
    )
    demo.add_argument("--seed", metavar="S", type=int, default=1, help="seed of the simulation (default: 1)")
    demo.add_argument(
        "--sign-on", action="store_true", help="also start an OpenID Connect provider for the sign-on"
    )
    demo.add_argument("--directory", metavar="DIR", type=Path, help="keep the files in this empty folder")
    demo.set_command(_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from rap.dc.demo import demonstrate

    return demonstrate(arguments)


def _add_audit(parser: Parser) -> None:
    verify = parser.add_command("verify", "find changed, removed, reordered and missing audit records")
    verify.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    verify.add_argument(
        "--head",
        metavar="NUMBER:HASH",
        action="append",
        default=[],
        help="a head that an earlier run printed and that was kept outside of the database",
    )
    verify.add_argument(
        "--box-head",
        metavar="BOX/CHAIN/NUMBER:HASH",
        action="append",
        default=[],
        help="a countersigned head that `rap box status` printed on a box",
    )
    verify.set_command(_verify_audit)

    _add_search(parser.add_command("search", "print audit records of boxes"), as_json=False)
    summary = "print audit records of boxes as JSON lines, with their hashes"
    _add_search(parser.add_command("export", summary), as_json=True)


def _add_search(parser: Parser, *, as_json: bool) -> None:
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    parser.add_argument("--box", metavar="SERIAL", default="", help="only records of this box")
    parser.add_argument("--text", default="", help="only records with this text, in upper or lower case")
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=_time_ms,
        default=0,
        help="from this time by the box's clock, such as 2027-01-31T12:00",
    )
    parser.add_argument("--until", metavar="TIME", type=_time_ms, default=2**53, help="before this time")
    parser.set_command(partial(_search_audit, as_json=as_json))


def _search_audit(arguments: argparse.Namespace, *, as_json: bool) -> int:
    from datacenter.audit.boxes import AuditSearch, export_line, find_records, search_line
    from datacenter.audit.verify import audited_store

    search = AuditSearch(arguments.box, arguments.text, arguments.since, arguments.until)
    with database_errors(arguments.config), audited_store(arguments.config) as store:
        for record in find_records(store, search):
            print(export_line(record) if as_json else search_line(record))
    return OK


def _time_ms(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is not a time; write it as 2027-01-31T12:00 (UTC)"
        ) from None
    return int(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000)


def _verify_audit(arguments: argparse.Namespace) -> int:
    from datacenter.audit.verify import audit_state
    from wire.audit_head import parse_head_text
    from wire.hash_chain import parse_head

    try:
        with database_errors(arguments.config):
            known_heads = [parse_head(text) for text in arguments.head]
            box_heads = [parse_head_text(text) for text in arguments.box_head]
            head, problems = audit_state(arguments.config, known_heads, box_heads)
    except ValueError as error:
        raise WrongInput(str(error)) from error
    for problem in problems:
        print(problem)
    if problems:
        return FAILED
    print(f"{head.number} audit records: complete and unchanged; head {head.number}:{head.hash}")
    return OK


def _migrate(arguments: argparse.Namespace) -> int:
    from datacenter.main import migrate_database

    with database_errors(arguments.config):
        migration = migrate_database(arguments.config, only_check=arguments.check)
    found, wanted = migration.found or "none: the database is empty", migration.wanted
    if migration.found == migration.wanted:
        print(f"schema revision {wanted}: current")
    elif arguments.check:
        print(f"schema revision {found}; this program needs {wanted}: run `rap dc migrate`")
        return FAILED
    else:
        print(f"schema revision {wanted}, upgraded from {migration.found or 'an empty database'}")
    return OK


def _serve(arguments: argparse.Namespace) -> int:
    import ssl

    from datacenter.main import check_datacenter, run_datacenter

    try:
        with database_errors(arguments.config):
            if arguments.check:
                for warning in check_datacenter(arguments.config):
                    print(f"rap: warning: {warning}", file=sys.stderr)
                print(f"{arguments.config}: OK")
                return OK
            run_datacenter(arguments.config)
    except (OSError, ssl.SSLError) as error:
        raise WrongInput(f"{arguments.config}: an address or PEM file is unusable: {error}") from error
    return OK
