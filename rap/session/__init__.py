"""`rap session`: remote sessions, their transition table, its exploration, the proof from audit files, raw TCP."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap session`."""
    table = parser.add_command("table", "print the transition table of sessions")
    table.add_argument("--json", action="store_true", help="print it as JSON")
    table.set_command(_table)
    explore = parser.add_command(
        "explore", "explore all possible events of sessions, and check the properties of the table"
    )
    explore.add_argument(
        "--without", metavar="GUARD", action="append", default=[], help="first remove a guard from every row"
    )
    explore.add_argument("--quick", action="store_true", help="fewer disturbances; takes a few seconds")
    explore.add_argument("--json", action="store_true", help="print the result as JSON")
    explore.set_command(_explore)
    verify = parser.add_command(
        "verify", "prove from the audit files of both ends that every second of tunnel had a grant"
    )
    verify.add_argument("datacenter", metavar="AUDIT-A", type=Path, help="the audit file of the data center")
    verify.add_argument("box", metavar="AUDIT-B", type=Path, help="the audit file of the box")
    for end, name in (("datacenter", "the data center"), ("box", "the box")):
        verify.add_argument(
            f"--{end}-key",
            metavar="PUB",
            type=Path,
            action="append",
            required=True,
            help=f"the public key of {name} (PEM); repeat it after a change of keys",
        )
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    verify.set_command(_verify)
    recording = parser.add_command("recording", "verify recordings of sessions by their signed heads")
    recording.add_argument("recordings", metavar="FILE", type=Path, nargs="+", help="a recording (.rapr)")
    recording.add_argument(
        "--datacenter-key",
        metavar="PUB",
        type=Path,
        action="append",
        required=True,
        help="the public key of the data center (PEM); repeat it after a change of keys",
    )
    recording.add_argument(
        "--audit",
        metavar="AUDIT",
        type=Path,
        action="append",
        default=[],
        help="the audit file of an end, which must contain the recording's hash chain; repeat it for both ends",
    )
    recording.set_command(_recording)
    connect = parser.add_command(
        "connect",
        "open a local port for a session: its raw TCP service, or its desktop for VNC viewers",
    )
    connect.add_argument(
        "session", metavar="SESSION", help="the session's identifier, as on its page and in the API"
    )
    connect.add_argument("--url", metavar="URL", required=True, help="the address of the staff's pages")
    connect.add_argument(
        "--token-file", metavar="FILE", type=Path, required=True, help="a file with the API token"
    )
    connect.add_argument(
        "--listen",
        metavar="HOST:PORT",
        default="127.0.0.1:3389",
        help="the local port (default: %(default)s)",
    )
    connect.add_argument("--ca", metavar="FILE", type=Path, help="trust these CAs instead of the system's")
    connect.set_command(_connect)


def _connect(arguments: argparse.Namespace) -> int:
    from rap.session.connect import connect_session

    return connect_session(arguments)


def _table(arguments: argparse.Namespace) -> int:
    from wire.session.table import TABLE

    if arguments.json:
        print(json.dumps([row._asdict() for row in TABLE], indent=2))
        return OK
    for row in TABLE:
        print(f"{row.name} ({', '.join(row.actors)})")
        print(f"    from {', '.join(row.states)}" + (f"; cause: {row.cause}" if row.cause else ""))
        for keyword, values in (("if", row.guards), ("then", row.actions)):
            if values:
                print(f"    {keyword} {', '.join(values)}")
    return OK


def _explore(arguments: argparse.Namespace) -> int:
    from sim.sessions.explore import Successors, explore_with
    from sim.sessions.model import ALL, QUICK, WHOLE
    from sim.sessions.mutants import without
    from wire.session.guards import GUARDS
    from wire.session.table import TABLE

    table = TABLE
    for guard in arguments.without:
        if guard not in GUARDS:
            raise WrongInput(f"{guard} is not a guard; use one of {', '.join(GUARDS)}")
        table = without(guard, table)
    successors = Successors(table, ALL)
    explored = []
    for scope in QUICK if arguments.quick or arguments.without else WHOLE:
        explored.append(explore_with(successors, scope))
        if not arguments.json:
            print(explored[-1].text(), flush=True)
        if explored[-1].violation:
            break
    if arguments.json:
        print(json.dumps([exploration.as_json() for exploration in explored], indent=2))
    return FAILED if explored[-1].violation else OK


def _verify(arguments: argparse.Namespace) -> int:
    from wire.pki.signature import SignatureError, load_public_key
    from wire.session.audit import AuditFile, AuditFileError, parse_audit
    from wire.session.cose import key_set
    from wire.session.verify import verify_audits

    def read(path: Path) -> AuditFile:
        try:
            return parse_audit(path.read_bytes())
        except AuditFileError as error:
            raise WrongInput(f"{path}: {error}") from error

    try:
        keys = [
            key_set(*map(load_public_key, paths)) for paths in (arguments.datacenter_key, arguments.box_key)
        ]
        verdict = verify_audits(read(arguments.datacenter), read(arguments.box), *keys)
    except (SignatureError, OSError) as error:
        raise WrongInput(str(error)) from error
    if arguments.json:
        print(json.dumps({"proven": verdict.is_proven, **asdict(verdict)}, indent=2))
        return OK if verdict.is_proven else FAILED
    for session in verdict.sessions:
        seconds = f"{session.tunnel_ms / 1000:.1f} s of tunnel"
        causes = ", ".join(session.causes) or "no end"
        print(f"{session.session}: {session.staff}, instrument {session.instrument}: {seconds}, {causes}")
        for problem in session.problems:
            print(f"    {problem}")
    print(*verdict.problems, sep="\n", end="\n" if verdict.problems else "")
    total = sum(session.tunnel_ms for session in verdict.sessions) / 1000
    extent = f"{len(verdict.sessions)} sessions, {total:.1f} s of tunnel"
    print(f"{extent}: {'every second had a valid grant' if verdict.is_proven else 'NOT proven'}")
    return OK if verdict.is_proven else FAILED


def _recording(arguments: argparse.Namespace) -> int:
    from datacenter.desktop.recording import RecordingError, read_recording
    from datacenter.sessions.recording_head import read_recording_head
    from datacenter.sessions.recordings import head_path
    from wire.desktop.stream import RAW_STREAM
    from wire.pki.signature import SignatureError, load_public_key
    from wire.session.audit import AuditFileError, parse_audit
    from wire.session.cose import GrantError, key_set
    from wire.session.table import End

    try:
        keys = key_set(*map(load_public_key, arguments.datacenter_key))
        audits = [parse_audit(path.read_bytes()) for path in arguments.audit]
    except (SignatureError, AuditFileError, OSError) as error:
        raise WrongInput(str(error)) from error
    outcome = OK
    for path in arguments.recordings:
        try:
            head = read_recording_head(head_path(path).read_bytes(), keys)
            with path.open("rb") as file:
                recording = read_recording(file, head.chain)
            if head.session.hex() != path.stem:
                raise RecordingError(f"it belongs to session {head.session.hex()}")
            for audit in audits:
                if recording.warm == RAW_STREAM and audit.owner.end is End.BOX:
                    continue  # the box only forwards the bytes; the data center records them
                lines = (line.record for line in audit.lines if line.record.session == path.stem)
                if head.chain.hex() not in {record.message for record in lines}:
                    raise RecordingError(f"the audit file of {audit.owner.name} has another hash chain")
        except (RecordingError, GrantError, OSError) as error:
            print(f"{path}: NOT valid: {error}")
            outcome = FAILED
            continue
        seconds = recording.frames[-1].time_ms / 1000 if recording.frames else 0.0
        print(f"{path}: valid, {len(recording.frames)} messages, {seconds:.1f} s")
    return outcome
