"""`rap fw`: the box's firewall, from its policy file."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rap.outcome import FAILED, OK, CommandError, MachineLacks, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from netfw.policy.policy import Policy
    from netfw.service.requests import FirewallProcess, Reply
    from netfw.watch.foreign import NotCovered


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap fw`."""
    render = parser.add_command("render", "print the ruleset for a policy")
    form = render.add_mutually_exclusive_group()
    form.add_argument("--nft", action="store_true", help="as text for `nft -f`; the default")
    form.add_argument("--json", action="store_true", help="as libnftables' JSON")
    check = parser.add_command(
        "check", "compare the kernel's ruleset with a policy, and show refused packets"
    )
    check.add_argument("--json", action="store_true", help="one JSON document on standard output")
    apply_ = parser.add_command("apply", "put a policy in force, atomically")
    apply_.add_argument(
        "--confirm",
        metavar="SECONDS",
        type=_seconds,
        help='revert it unless "yes" is typed within this time',
    )
    prove = parser.add_command("prove", "prove that the ruleset listed by the kernel implements a policy")
    prove.add_argument("--json", action="store_true", help="one JSON document on standard output")
    prove.add_argument(
        "--listing", metavar="FILE", type=Path, help="output of `nft -j list table inet rap` to prove instead"
    )
    watch = parser.add_command("watch", "repair changes by other programs until SIGTERM")
    watch.add_argument("--json", action="store_true", help="each event as a JSON document, one per line")
    serve = parser.add_command(
        "serve", "run the firewall service for a box program: keep a policy in force until SIGTERM"
    )
    serve.add_argument(
        "--socket", metavar="PATH", type=Path, required=True, help="Unix socket for the box program"
    )
    serve.add_argument(
        "--user",
        metavar="NAME",
        action="append",
        default=[],
        help="user of the box program, if not root, who may open paths of sessions; may be repeated",
    )
    log = parser.add_command("log", "print refused packets, as logged by the kernel, until SIGTERM")
    log.add_argument("--json", action="store_true", help="each entry as a JSON document, one per line")
    log.add_argument("--seconds", metavar="N", type=_seconds, help="end after this time")
    log.set_command(_log)
    verbs: list[tuple[Parser, Callable[[argparse.Namespace], int]]]
    verbs = [
        (render, _render),
        (check, _check),
        (apply_, _apply),
        (prove, _prove),
        (watch, _watch),
        (serve, _serve),
    ]
    for verb, command in verbs:
        verb.add_argument("policy", metavar="POLICY", type=Path, help="TOML file")
        verb.set_command(command)


def _render(arguments: argparse.Namespace) -> int:
    from netfw.ruleset.render import render
    from netfw.ruleset.text import ruleset_text

    ruleset = render(_load(arguments.policy))
    if arguments.json:
        _print_json({"nftables": ruleset.commands()})
    else:
        print(ruleset_text(ruleset), end="")
    return OK


def _check(arguments: argparse.Namespace) -> int:
    from netfw.service.requests import Check, Checked

    policy = _load(arguments.policy)
    with _service() as service:
        checked = service.ask(Check(str(arguments.policy)))
    assert isinstance(checked, Checked)
    differences, uncovered = checked.differences, _not_covered(policy)
    holds = not differences and not any(entry.breaks for entry in uncovered)
    if arguments.json:
        _print_json(
            {
                "policy": str(arguments.policy),
                "holds": holds,
                "differences": differences,
                "not_covered": [entry.description for entry in uncovered],
                "refused": {cause: {"packets": p, "bytes": b} for cause, (p, b) in checked.refused.items()},
                "sessions": checked.sessions,
            }
        )
        return OK if holds else FAILED
    print(f"{arguments.policy}: the kernel's ruleset {'differs' if differences else 'is identical'}")
    print(*(f"  {difference}" for difference in differences), sep="\n", end="\n" if differences else "")
    if checked.refused:
        print(f"open sessions: {checked.sessions}\nrefused:")
    for cause, (packets, size) in checked.refused.items():
        print(f"  {cause:<12} {packets:>12} packets {size:>15} bytes")
    _print_not_covered(uncovered)
    return OK if holds else FAILED


def _not_covered(policy: Policy) -> list[NotCovered]:
    from netfw.watch.surroundings import not_covered

    try:
        return not_covered(policy)
    except OSError as error:
        raise MachineLacks(
            f"the system's network configuration cannot be read: {error.strerror}; run as root"
        ) from error


def _print_not_covered(uncovered: list[NotCovered]) -> None:
    for entry in uncovered:
        consequence = "; the proof does not apply" if entry.breaks else ""
        print(f"not covered: {entry.description}{consequence}")


def _apply(arguments: argparse.Namespace) -> int:
    from netfw.service.requests import Apply

    with _service() as service:
        if arguments.confirm is not None:
            return _apply_on_trial(service, arguments.policy, arguments.confirm)
        service.ask(Apply(str(arguments.policy)))
    print(f"{arguments.policy}: in force")
    return OK


def _apply_on_trial(service: FirewallProcess, file: Path, seconds: int) -> int:
    from netfw.service.requests import Keep, Revert, TrialEnded, Try

    service.ask(Try(str(file), seconds))
    print(f'{file}: in force for {seconds} s; type "yes" to keep it: ', end="", flush=True)
    confirmed = _read_confirmation(service.connection.fileno())
    reply = service.next() if confirmed is None else service.ask(Keep() if confirmed else Revert())
    assert isinstance(reply, TrialEnded)
    if reply.kept:
        print(f"{file}: kept")
        return OK
    print()
    if not reply.reverted:
        raise CommandError("the previous ruleset could not be restored; apply a policy now")
    print(f"{file}: reverted; the previous ruleset is in force")
    return FAILED


def _read_confirmation(ended_fd: int) -> bool | None:
    """Return whether "yes" is typed; None if the descriptor `ended_fd` becomes readable first."""
    import select

    readable, _, _ = select.select([sys.stdin, ended_fd], [], [])
    return None if ended_fd in readable else sys.stdin.readline().strip() == "yes"


def _prove(arguments: argparse.Namespace) -> int:
    from netfw.proof.prove import proof_document, prove
    from netfw.proof.symbolic import Unproven
    from netfw.watch.surroundings import ASSUMPTIONS

    policy, objects = _load(arguments.policy), _listing(arguments.listing)
    uncovered = _not_covered(policy) if arguments.listing is None else []
    findings = []
    try:
        for finding in prove(policy, objects):
            findings.append(finding)
            if not arguments.json:
                print(finding)
    except Unproven as error:
        raise CommandError(str(error)) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = (
            f"the listing contains something this program does not support ({type(error).__name__}: {error})"
        )
        raise CommandError(f"{problem}; `rap fw apply` replaces it") from error
    holds = all(finding.holds for finding in findings) and not any(entry.breaks for entry in uncovered)
    of_listing = ("there are no other tables: a saved listing does not include other tables and interfaces",)
    assumed = ASSUMPTIONS + (of_listing if arguments.listing else ())
    if arguments.json:
        outside = [entry.description for entry in uncovered]
        document = proof_document(str(arguments.policy), findings, assumed, outside)
        _print_json({**document, "holds": holds})
        return OK if holds else FAILED
    print(*(f"assumed: {assumption}" for assumption in assumed), sep="\n")
    _print_not_covered(uncovered)
    return OK if holds else FAILED


def _listing(file: Path | None) -> list[Any]:
    """Return the objects of the table, listed by the kernel or read from a saved listing."""
    if file is None:
        from netfw.service.requests import List, Listed

        with _service() as service:
            listed = service.ask(List())
        assert isinstance(listed, Listed)
        if listed.objects is None:
            raise CommandError("the kernel has no table `inet rap`; create it with `rap fw apply`")
        return listed.objects
    try:
        objects: list[Any] = json.loads(file.read_text("utf-8"))["nftables"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WrongInput(
            f"{file}: not a listing ({error}); create it with `nft -j list table inet rap`"
        ) from error
    return [listed for listed in objects if "metainfo" not in listed]


def _watch(arguments: argparse.Namespace) -> int:
    import asyncio

    from netfw.service.requests import WatchRequest

    with _service() as service:
        service.ask(WatchRequest(str(arguments.policy)))
        print(f"rap: watching {arguments.policy}", file=sys.stderr, flush=True)
        in_force = asyncio.run(_watching(service, arguments.policy, arguments.json))
    return OK if in_force else FAILED


async def _watching(service: FirewallProcess, file: Path, as_json: bool) -> bool:
    """Watch until SIGTERM; return whether the policy was in force at the end. Raises: FirewallError."""
    import asyncio

    from netfw.errors import FirewallError
    from netfw.service.requests import Followed, Stop, Stopped
    from netfw.service.supervisor import INSPECTION_SECONDS
    from netfw.watch.surroundings import Inspector

    ended, inspector = _stop_event(), Inspector(_load(file))
    uncovered: list[NotCovered] = []
    problems: list[FirewallError] = []

    def on_event() -> None:
        try:
            event = service.next()
        except FirewallError as error:
            problems.append(error)
            ended.set()
            return
        if isinstance(event, Followed):
            inspector.policy = _load(file)
        _print_firewall_event(event, file, as_json)

    loop = asyncio.get_running_loop()
    loop.add_reader(service.connection, on_event)
    while not ended.is_set():
        uncovered = _report_changes(uncovered, inspector.inspect(), as_json)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), INSPECTION_SECONDS)
    loop.remove_reader(service.connection)
    if problems:
        raise problems[0]
    reply = service.ask(Stop())
    while not isinstance(reply, Stopped):
        _print_firewall_event(reply, file, as_json)
        reply = service.next()
    return reply.in_force and not any(entry.breaks for entry in uncovered)


def _report_changes(before: list[NotCovered], now: list[NotCovered], as_json: bool) -> list[NotCovered]:
    """Print the differences between two results of `not_covered`; return the second one."""
    for entry in now:
        if entry not in before:
            _print_event(
                "not covered",
                f"not covered: {entry.description}",
                as_json,
                says=entry.description,
                breaks=entry.breaks,
            )
    for entry in before:
        if entry not in now:
            _print_event(
                "covered again", f"covered again: {entry.description}", as_json, says=entry.description
            )
    return now


def _print_firewall_event(event: Reply, file: Path, as_json: bool) -> None:
    import msgspec

    from netfw.events import Alarm, Repair

    if isinstance(event, Alarm):
        text = f"changed by {event.program or 'an unknown program'} (process {event.pid or 'unknown'})"
        _print_event("changed", text, as_json, program=event.program, process=event.pid)
        return
    if not isinstance(event, Repair):
        _print_event("follows", f"{file} was applied again; watching the new version", as_json)
        return
    result = "the policy is in force again" if event.in_force else f"NOT REPAIRED: {event.problem}"
    text = "\n".join((*(f"  {difference}" for difference in event.differences), result))
    _print_event(
        "repaired" if event.in_force else "not repaired", text, as_json, **msgspec.structs.asdict(event)
    )


def _print_event(event: str, text: str, as_json: bool, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}) if as_json else text, flush=True)


def _serve(arguments: argparse.Namespace) -> int:
    """Replace this process with the service."""
    from netfw.service.spawn import command, environment

    users = [option for name in arguments.user for option in ("--user", name)]
    program = command("serve", "--policy", str(arguments.policy), "--socket", str(arguments.socket), *users)
    os.execve(program[0], program, environment())  # noqa: S606 - intended


def _log(arguments: argparse.Namespace) -> int:
    import asyncio

    with _errors():
        asyncio.run(_logging(arguments.seconds, arguments.json))
    return OK


async def _logging(seconds: int | None, as_json: bool) -> None:
    import asyncio

    from netfw.kernel.log import FirewallLog, Lost, RefusedPacket
    from netfw.ruleset.names import LOG_GROUP

    def print_entry(entry: RefusedPacket | Lost) -> None:
        try:
            print(json.dumps(entry.summary()) if as_json else entry, flush=True)
        except BrokenPipeError:  # for example with `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ended.set()

    ended, log = _stop_event(), FirewallLog(print_entry)
    log.start()
    print(f"rap: printing refused packets (NFLOG group {LOG_GROUP})", file=sys.stderr, flush=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), seconds)
    log.stop()


def _stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    import asyncio
    import signal

    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    return ended


def _load(file: Path) -> Policy:
    from netfw.policy.policyfile import load_policy
    from settings.problems import SettingsError

    try:
        return load_policy(file)
    except SettingsError as error:
        raise WrongInput(str(error)) from error


@contextlib.contextmanager
def _service() -> Iterator[FirewallProcess]:
    """Start a firewall service for this command; this process itself must not load libnftables (GPL)."""
    from netfw.service.requests import FirewallProcess

    with _errors(), FirewallProcess() as service:
        yield service


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Convert FirewallError to CommandError."""
    from netfw.errors import FirewallError, FirewallErrorKind

    try:
        yield
    except FirewallError as error:
        if error.kind is FirewallErrorKind.UNFIT:
            raise WrongInput(str(error)) from error
        if error.kind in (FirewallErrorKind.LACKING, FirewallErrorKind.DENIED):
            raise MachineLacks(str(error)) from error
        raise CommandError(str(error)) from error


def _seconds(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= 3600:
        raise argparse.ArgumentTypeError(f"{given!r}: give a number of seconds from 1 to 3600")
    return int(given)


def _print_json(document: Any) -> None:
    print(json.dumps(document, indent=2))
