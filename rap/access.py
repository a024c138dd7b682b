"""`rap access`: who may do what in the data center."""

from __future__ import annotations

import argparse
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from datacenter.access.control import AccessControl
    from datacenter.access.request import RequestContext, Resource


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap access`."""
    check = parser.add_command("check", "check policy files")
    _add_policies(check)
    check.set_command(_check)
    prove = parser.add_command("prove", "prove what policies guarantee")
    _add_policies(prove)
    prove.add_argument("--theorems", metavar="FILE", type=Path, help="TOML file with theorems")
    prove.set_command(_prove)
    explain = parser.add_command("explain", "decide a request, and print the reason")
    explain.add_argument("staff", metavar="STAFF", help="a name in the staff directory")
    explain.add_argument("action", metavar="ACTION", help="for example open-session")
    explain.add_argument("resource", metavar="TYPE:NAME", help="for example Instrument:HEMA-0001")
    explain.add_argument(
        "attributes",
        metavar="KEY=VALUE",
        nargs="*",
        help="site=, country=, region=, model= and others of the type",
    )
    explain.add_argument("--directory", metavar="FILE", type=Path, required=True, help="TOML staff directory")
    explain.add_argument(
        "--policy",
        metavar="FILE",
        type=Path,
        action="append",
        help="Cedar file, instead of those of this version",
    )
    explain.add_argument("--purpose", default="service", help="default: service")
    explain.add_argument("--at", metavar="TIME", help="such as 2026-10-01T12:00:00Z; default: now")
    explain.add_argument("--token", metavar="NAME", help="name of an API token in the directory")
    explain.add_argument(
        "--approved-by", metavar="STAFF", help="the second person, who approved a dangerous change"
    )
    explain.set_command(_explain)


def _add_policies(parser: Parser) -> None:
    parser.add_argument(
        "policies", metavar="POLICY", nargs="*", type=Path, help="Cedar files; default: those of this version"
    )


def _check(arguments: argparse.Namespace) -> int:
    from datacenter.access.language.policyfile import SHIPPED, read_each
    from datacenter.access.proof.prove import without_effect

    policies, errors = read_each(arguments.policies or SHIPPED)
    for error in errors:
        print(error)
    if errors:
        return FAILED
    useless = list(without_effect(policies))
    for policy, message in useless:
        print(f"{policy.file}:{policy.line}: {policy.id}: {message}")
    if useless:
        return FAILED
    print(f"{len(policies.policies)} policies: valid")
    return OK


def _prove(arguments: argparse.Namespace) -> int:
    from datacenter.access.language.policyfile import SHIPPED, read_each
    from datacenter.access.proof.prove import prove
    from datacenter.access.proof.theorems import SHIPPED_THEOREMS, read_theorems
    from settings.problems import SettingsError

    policies, errors = read_each(arguments.policies or SHIPPED)
    try:
        theorems = read_theorems(arguments.theorems or SHIPPED_THEOREMS)
    except SettingsError as error:
        errors = [*errors, error]
    if errors:
        raise WrongInput("\n".join(map(str, errors)))
    failed = 0
    for result in prove(policies, theorems):
        table = result.theorem.table
        print(f"{'proven' if result.holds else 'FALSE':8} {table.name:20} {table.text}")
        if not result.holds:
            failed += 1
            print(f"         {result.words}")
    print(f"{len(theorems) - failed} theorems proven{f', {failed} false' if failed else ''}")
    return FAILED if failed else OK


def _explain(arguments: argparse.Namespace) -> int:
    from datacenter.access.control import AccessControl, AccessFiles
    from datacenter.access.language.policyfile import SHIPPED
    from settings.problems import SettingsError

    try:
        files = AccessFiles(arguments.directory, tuple(arguments.policy or SHIPPED))
        access = AccessControl(files, lambda _: None)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    decision = access.peek(
        arguments.staff, _action(arguments.action), _resource(arguments), _context(arguments, access)
    )
    print(f"{'permitted' if decision.permitted else 'refused'}: {decision.reason}")
    return OK if decision.permitted else FAILED


def _action(name: str) -> str:
    from datacenter.access.vocabulary import ACTIONS
    from settings.toml import nearest

    if name not in ACTIONS:
        raise WrongInput(f"unknown action {name}: {nearest(name, list(ACTIONS))}")
    return name


def _resource(arguments: argparse.Namespace) -> Resource:
    from datacenter.access.request import Resource
    from datacenter.access.vocabulary import KINDS, LEVELS
    from settings.toml import nearest

    kind, separator, name = arguments.resource.partition(":")
    if kind not in KINDS:
        raise WrongInput(f"unknown type {kind}: {nearest(kind, list(KINDS))}")
    if not separator or not name:
        raise WrongInput(f"the resource has no name; write {kind}:NAME")
    known = [*LEVELS, *KINDS[kind]]
    attributes = {}
    for argument in arguments.attributes:
        key, separator, value = argument.partition("=")
        if key not in known or not separator:
            raise WrongInput(f"{argument}: write KEY=VALUE; KEY {nearest(key, known)}")
        attributes[key] = value
    return Resource(kind, name, **attributes)


def _context(arguments: argparse.Namespace, access: AccessControl) -> RequestContext:
    from datacenter.access.four_eyes import APPROVAL_MS
    from datacenter.access.request import Approval, RequestContext
    from datacenter.access.vocabulary import PURPOSES
    from settings.toml import nearest

    if arguments.purpose not in PURPOSES:
        raise WrongInput(f"unknown purpose {arguments.purpose}: {nearest(arguments.purpose, list(PURPOSES))}")
    now_ms = _time_ms(arguments.at)
    token = access.named_token(arguments.token) if arguments.token else None
    if arguments.token and token is None:
        raise WrongInput(f"there is no API token {arguments.token} in {arguments.directory}")
    approval = Approval(arguments.approved_by, now_ms + APPROVAL_MS) if arguments.approved_by else None
    return RequestContext(now_ms, arguments.purpose, token, approval)


def _time_ms(text: str | None) -> int:
    if text is None:
        return int(time.time() * 1000)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise WrongInput(f"{text} is not a time; write it like 2026-10-01T12:00:00Z") from error
    if parsed.tzinfo is None:
        raise WrongInput(f"{text} needs an offset from UTC, as in 2026-10-01T12:00:00Z")
    return round(parsed.timestamp() * 1000)
