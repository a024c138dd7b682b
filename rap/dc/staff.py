"""Shared parts of the verbs of `rap dc` for staff: their options, and access control by the configured policies."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rap.dc.store import open_store
from rap.outcome import WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from datacenter.access.control import AccessControl
    from datacenter.access.decision import Decision
    from datacenter.access.request import Resource
    from datacenter.access.vocabulary import Purpose
    from datacenter.config import Config
    from datacenter.fleet.visible import Visibility
    from datacenter.store.store import Store


class StaffCall(NamedTuple):
    """A call of the command line by a member of the staff."""

    store: Store
    access: AccessControl
    staff: str
    purpose: Purpose
    config: Config
    now_ms: int

    def decide(self, action: str, resource: Resource) -> Decision:
        """Decide by the configured policies, and record the decision."""
        from datacenter.access.request import RequestContext

        return self.access.decide(self.staff, action, resource, RequestContext(self.now_ms, self.purpose))

    def visibility(self) -> Visibility:
        """Return the rights of the person. Raises: WrongInput for a person who is not in the staff directory."""
        from datacenter.fleet.visible import Visibility

        principal = self.access.rules.directory.principal(self.staff)
        if principal is None:
            raise WrongInput(f"there is no {self.staff} in the staff directory")
        return Visibility(self.access.rules.policies, principal, self.now_ms, self.purpose)


def add_staff_verb(parser: Parser, name: str, text: str, run: Any) -> Parser:
    """Add a verb with the options for the acting person and the purpose."""
    verb = parser.add_command(name, text)
    verb.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    verb.add_argument(
        "--as",
        dest="staff",
        metavar="STAFF",
        required=True,
        help="the acting person, a name in the staff directory",
    )
    verb.add_argument("--purpose", metavar="PURPOSE", default="service", help="default: service")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_command(run)
    return verb


@contextmanager
def staff_call(arguments: argparse.Namespace) -> Iterator[StaffCall]:
    """Open the data center's database for a member of the staff. Raises: WrongInput."""
    from datacenter.access.control import AccessControl
    from datacenter.access.vocabulary import PURPOSES
    from datacenter.audit.trail import AuditTrail

    if arguments.purpose not in PURPOSES:
        raise WrongInput(f"--purpose {arguments.purpose}: give one of {', '.join(PURPOSES)}")
    now_ms = time.time_ns() // 1_000_000
    with open_store(arguments.config) as (config, store):
        if config.staff is None:
            raise WrongInput(f"{arguments.config}: add [staff] with a directory of the staff who may do this")
        access = AccessControl(config.access_files, AuditTrail(store).record)
        yield StaffCall(store, access, arguments.staff, arguments.purpose, config, now_ms)
