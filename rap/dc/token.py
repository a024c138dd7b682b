"""`rap dc token`: API tokens of programs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rap.dc.store import open_store
from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser
from rap.utc import utc_day

if TYPE_CHECKING:
    from datacenter.store.store import Store


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap dc token`."""
    create = parser.add_command("create", "make a token, and print its secret once")
    create.add_argument(
        "--staff", metavar="ID", required=True, help="the owner, a name in the staff directory"
    )
    create.add_argument("--purpose", required=True, help="for example monitoring or service")
    create.add_argument(
        "--days", metavar="N", type=int, required=True, help="days until it expires, at most 366"
    )
    create.add_argument(
        "--action", metavar="NAME", action="append", help="an action or a group of actions; default: read"
    )
    create.set_command(_create)
    show = parser.add_command("list", "list the tokens, without secrets")
    show.set_command(_list)
    revoke = parser.add_command("revoke", "revoke a token permanently")
    revoke.add_argument("token", metavar="TOKEN", help="its name, as `list` prints it")
    revoke.set_command(_revoke)
    for verb in (create, show, revoke):
        verb.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")


def _create(arguments: argparse.Namespace) -> int:
    from datacenter.access.directory import read_directory
    from datacenter.access.tokens import DAYS_MAX, create_token
    from datacenter.access.vocabulary import ACTIONS, GROUPS, PURPOSES
    from datacenter.store.tables.partitions import DAY_MS
    from settings.toml import nearest

    if arguments.purpose not in PURPOSES:
        raise WrongInput(f"unknown purpose {arguments.purpose}: {nearest(arguments.purpose, list(PURPOSES))}")
    if not 1 <= arguments.days <= DAYS_MAX:
        raise WrongInput(f"--days {arguments.days}: must be from 1 to {DAYS_MAX}")
    actions = frozenset(arguments.action or ["read"])
    known = [*GROUPS, *ACTIONS]
    for action in sorted(actions - set(known)):
        raise WrongInput(f"unknown action {action}: {nearest(action, known)}")
    with open_store(arguments.config) as (config, store):
        if config.staff is None:
            raise WrongInput(f"{arguments.config}: add [staff] with a directory of the staff")
        owner = read_directory(config.staff.directory).principal(arguments.staff)
        if owner is None or not owner.active:
            raise WrongInput(
                f"{arguments.staff} is not an active member of the staff in {config.staff.directory}"
            )
        now_ms = time.time_ns() // 1_000_000
        expires_ms = now_ms + arguments.days * DAY_MS
        secret, token = create_token(
            store, owner.id, arguments.purpose, actions, owner.scope, now_ms, expires_ms
        )
        _record(store, token.owner, token.id, "issue-token", token.purpose, now_ms)
    print(f"token {token.id} of {token.owner}, for {token.purpose}, until {utc_day(expires_ms)}")
    print(secret)
    return OK


def _list(arguments: argparse.Namespace) -> int:
    from datacenter.access.tokens import list_tokens

    now_ms = time.time_ns() // 1_000_000
    with open_store(arguments.config) as (_, store):
        for token in list_tokens(store):
            actions = token.actions.replace("\n", ",")
            until = utc_day(token.expires_at_ms)
            print(
                f"{token.id}  {token.state(now_ms):8} {token.owner}  {token.purpose}  {actions}  until {until}"
            )
    return OK


def _revoke(arguments: argparse.Namespace) -> int:
    from datacenter.access.tokens import revoke_token

    now_ms = time.time_ns() // 1_000_000
    with open_store(arguments.config) as (_, store):
        token = revoke_token(store, arguments.token, now_ms)
        if token is None:
            print(f"there is no token {arguments.token}; `rap dc token list` lists them")
            return FAILED
        _record(store, token.owner, token.id, "revoke-token", token.purpose, now_ms)
    print(f"token {token.id} of {token.owner}: revoked")
    return OK


def _record(store: Store, owner: str, token: str, action: str, purpose: str, now_ms: int) -> None:
    from datacenter.audit.chain import AuditEntry
    from datacenter.audit.trail import AuditTrail

    reason = "by the command line, on the machine of the data center"
    AuditTrail(store).append(
        [AuditEntry(now_ms, owner, token, action, "StaffRecord", owner, "", purpose, "permitted", "", reason)]
    )
