"""`rap box`: the box program on real hardware."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rap.outcome import OK, CommandError, MachineLacks, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from agents.box.audit_work import AuditStatus
    from agents.box.configuration.config import BoxConfig
    from agents.box.firewall import FirewallStatus
    from agents.box.intake.counts import PortStatus
    from agents.box.status.status import CertificateStatus, StatusReport
    from agents.box.updates.surroundings import UpdateStatus


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap box`."""
    run = parser.add_command("run", "collect, buffer and forward reports until SIGTERM")
    run.add_argument("--config", metavar="FILE", type=Path, required=True, help="TOML configuration")
    run.add_argument("--check", action="store_true", help="only check the configuration")
    run.set_command(_run)
    status = parser.add_command("status", "show the status of the running box program")
    status.add_argument(
        "--config", metavar="FILE", type=Path, required=True, help="TOML configuration of the running program"
    )
    status.add_argument("--json", action="store_true", help="one JSON document on standard output")
    status.set_command(_status)


def _run(arguments: argparse.Namespace) -> int:
    gc.disable()  # imports create little garbage, and collecting it takes a tenth of their time
    from agents.box.check import DescriptorError, check_box
    from agents.box.main import run_box
    from agents.spool.types import SpoolError
    from hal.disk import DiskError
    from settings.problems import SettingsError

    gc.freeze()
    gc.enable()
    try:
        if arguments.check:
            checked = check_box(arguments.config)
            checked.check_operable(arguments.config)
            for problem in checked.identity:
                _print_message(f"warning: {problem}")
            _check_fips(checked.config)
            print(f"{arguments.config}: OK")
        else:
            run_box(arguments.config, _print_served, _print_message)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    except DescriptorError as error:
        raise MachineLacks(str(error)) from error
    except (DiskError, SpoolError) as error:
        raise MachineLacks(f"{arguments.config}: spool.directory: the disk is unusable: {error}") from error
    return OK


def _check_fips(config: BoxConfig) -> None:
    """Raise MachineLacks if FIPS mode is required and not in force in this process."""
    from agents.box.program import demanded_self_test
    from hal.linux.crypto import LinuxCryptographicModule

    tested = demanded_self_test(config, LinuxCryptographicModule())
    if tested is not None and not tested.is_passed:
        reasons = "; ".join(tested.failed.values())
        raise MachineLacks(f"fips is required and not in force, so the box would serve nothing: {reasons}")


def _status(arguments: argparse.Namespace) -> int:
    import msgspec

    from agents.box.configuration.config import load_config
    from agents.box.status.status import NotRunning, read_status
    from settings.problems import SettingsError

    try:
        config = load_config(arguments.config)
        if config.status is None:
            raise WrongInput(
                f"{arguments.config}: status: the table is missing; add [status] with a `socket`"
            )
        status = read_status(config.status.socket)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    except NotRunning as error:
        raise CommandError(str(error)) from error
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(status)).decode())
        return OK
    print_status(status)
    return OK


def print_status(status: StatusReport) -> None:
    """Print a box's status as lines of text."""
    waiting, traffic = status.backlog, status.traffic
    print(f"data center  {'connected, ' + traffic.cipher if status.connected else 'not connected'}")
    if status.trust is not None:
        print(f"             PROBLEM: {status.trust.message}")
    print(f"waiting      {waiting.alert} alerts, {waiting.audit} audit records, {waiting.routine} reports")
    print(f"accepted     {status.accepted} reports, {status.repeated} duplicates")
    print(f"sent         {traffic.records} records in {traffic.batches} batches")
    print(f"spool        {status.spool_bytes / 1e6:,.0f} MB, {status.gaps_reported} gaps reported")
    if status.fips is not None:
        print(
            f"fips         {'in force: ' + status.fips.module if status.fips.is_passed else 'NOT IN FORCE'}"
        )
        for check, reason in status.fips.failed.items():
            print(f"             PROBLEM: {check}: {reason}")
    if status.spool_problem:
        print(f"             PROBLEM: reports are refused: {status.spool_problem}")
    if status.certificate is not None:
        _print_certificate(status.certificate)
    if status.firewall is not None:
        _print_firewall(status.firewall)
    if status.update is not None:
        _print_update(status.update)
    if status.audit is not None:
        _print_audit(status.audit)
    for port in status.ports:
        print_port(port)
    for bound in status.bounds:
        if bound.is_near:
            suffix = f" of port {bound.port}" if bound.port else ""
            print(f"near limit   PROBLEM: {bound.name}{suffix}: {bound.amount:,.0f} of {bound.limit:,.0f}")


def print_port(port: PortStatus) -> None:
    """Print the state of a port with an instrument that speaks its own standard."""
    state = "connected" if port.connected else "not connected"
    last_byte = "nothing received yet" if port.silent_s is None else f"last byte {port.silent_s:,.0f} s ago"
    role = "" if port.role == "receiver" else f", {port.role}"
    print(f"port {port.port:<8}{port.instrument}, {port.speaks}{role}: {state}, {last_byte}")
    stored = "" if port.message_s is None else f", the last message {port.message_s:,.0f} s ago"
    print(f"             {port.accepted:,} reports accepted{stored}")
    for reason, number in port.left_out.items():
        print(f"             {reason.replace('-', ' ')}: {number:,}")


def _print_certificate(certificate: CertificateStatus) -> None:
    from datetime import UTC, datetime

    if certificate.expires_s is not None:
        print(f"certificate  until {datetime.fromtimestamp(certificate.expires_s, UTC):%Y-%m-%d}")
    for problem in certificate.problems:
        print(f"             PROBLEM: {problem}")


def _print_firewall(firewall: FirewallStatus) -> None:
    print(f"firewall     {'in force' if firewall.in_force else 'NOT IN FORCE: ' + firewall.problem}")
    print(
        f"             changed by other programs {firewall.alarms} times, repaired {firewall.repairs} times"
    )
    for line in firewall.not_covered:
        print(f"             not covered: {line}")


def _print_update(update: UpdateStatus) -> None:
    release = f"release {update.release}" if update.release else "unknown release"
    ordered = f", release {update.ordered}: {update.phase}" if update.ordered else ""
    data = f", data release {update.data}" if update.data else ""
    print(f"slot         {update.slot or 'none'}, {release}{data}{ordered}")
    if update.problem:
        print(f"             PROBLEM: {update.problem}")


def _print_audit(audit: AuditStatus) -> None:
    from rap.utc import utc_minute

    print(f"audit        {audit.record} records in chain {audit.chain}")
    if audit.countersigned:
        print(
            f"             countersigned {utc_minute(int(audit.countersigned_s * 1000))}: {audit.countersigned}"
        )


def _print_served(port: int, tcp_port: int) -> None:
    _print_message(f"instrument port {port}: listening on TCP port {tcp_port}")


def _print_message(message: str) -> None:
    print(f"rap: {message}", file=sys.stderr)
