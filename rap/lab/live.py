"""`rap lab up` and the verbs for running labs.

A running lab is identified by its name, which may be omitted if only one lab runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rap.lab import (
    add_image_options,
    image_settings,
    load,
    make_folder,
    print_json,
    seconds,
    seed,
    show_result,
)
from rap.outcome import OK, CommandError, MachineLacks, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from sim.worlds.kernel.live.state import LabState

_WATCH_SECONDS: Final = 0.3
_JSON_SECONDS: Final = 1.0
REQUIRED_IF: Final = "required if several labs run"


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap lab` for running labs."""
    up = parser.add_command("up", "start a lab that runs in real time until `rap lab down`")
    up.add_argument("file", metavar="FILE", type=Path)
    up.add_argument("--world", choices=("kernel", "image"), default="kernel", help="default: kernel")
    add_image_options(up)
    up.add_argument("--name", metavar="NAME", help="name of the running lab; default: that of the lab file")
    up.add_argument("--seed", type=seed, metavar="N", help="default: the lab file's")
    up.add_argument("--no-events", action="store_true", help="without the lab file's events")
    up.set_command(_up)
    ps = parser.add_command("ps", "list running labs")
    ps.set_command(_ps)
    watch = add_lab_argument(parser.add_command("watch", "show the live state of a running lab"))
    watch.add_argument("--seconds", metavar="N", type=seconds, help="end after this time; default: Ctrl-C")
    watch.set_command(_watch)
    shell = add_lab_option(parser.add_command("shell", "run a shell or a command on a host of a running lab"))
    shell.add_argument("host", metavar="HOST")
    shell.add_argument("words", metavar="COMMAND", nargs=argparse.REMAINDER, help="default: a shell")
    shell.set_command(_shell)
    down = add_lab_argument(parser.add_command("down", "end a running lab"))
    down.add_argument("--all", action="store_true", help="end all running labs")
    down.add_argument(
        "--report", metavar="DIR", type=Path, help="evaluate it first, and write the report to this directory"
    )
    down.set_command(_down)
    for verb in (up, ps, down):
        verb.add_argument("--json", action="store_true", help="one JSON document on standard output")
    watch.add_argument("--json", action="store_true", help="one JSON document per second, each on one line")


def add_lab_option(parser: Parser) -> Parser:
    """Add the option --lab to a verb."""
    parser.add_argument("--lab", metavar="NAME", help=REQUIRED_IF)
    return parser


def add_lab_argument(parser: Parser) -> Parser:
    """Add NAME, or the option --lab, to a verb whose only object is the lab."""
    lab = parser.add_mutually_exclusive_group()
    lab.add_argument("lab", metavar="NAME", nargs="?", default=argparse.SUPPRESS, help=REQUIRED_IF)
    lab.add_argument("--lab", metavar="NAME", help="the same, as for the other verbs")
    return parser


@contextmanager
def translate_errors() -> Iterator[None]:
    """Convert errors of the kernel world and of the image world to CommandError."""
    if sys.platform != "linux":
        raise MachineLacks("this world runs on Linux only; use --world virtual here")
    from settings.problems import SettingsError
    from sim.engine.stalls import Stalled
    from sim.worlds.kernel import LabEnded, LabExists, NoSuchLab, RequestRefused
    from sim.worlds.kernel.namespaces.missing import MachineLacksError
    from sim.worlds.shared.refusals import ImageRefused

    try:
        yield
    except MachineLacksError as error:
        raise MachineLacks(str(error)) from error
    except LabExists as error:
        raise WrongInput(f"{error}, or give this one another name with --name") from error
    except (SettingsError, ImageRefused, NoSuchLab, RequestRefused) as error:
        raise WrongInput(str(error)) from error
    except Stalled as error:
        raise CommandError(str(error)) from error
    except (LabEnded, ConnectionError) as error:
        raise CommandError(f"the lab has ended: {error}") from error


def choose_lab(requested: str | None) -> str:
    """Return the name of the running lab `requested`, or of the only one. Raises: MachineLacks, WrongInput."""
    with translate_errors():
        from sim.worlds.kernel import running
        from sim.worlds.kernel.namespaces.missing import require

        require()
        names = running()
    if requested in names:
        return requested
    if not names:
        raise WrongInput("no lab is running; start one with `rap lab up FILE`")
    if requested is not None:
        raise WrongInput(f"no lab named {requested!r} is running; running: {', '.join(names)}")
    if len(names) > 1:
        raise WrongInput(f"several labs are running: {', '.join(names)}; give the name of one")
    return names[0]


def request(name: str, verb: str, **parameters: Any) -> Any:
    """Send a request to a running lab and return the response. Raises: CommandError."""
    with translate_errors():
        from sim.worlds.kernel import ask

        return ask(name, {"verb": verb, **parameters})


# -- starting and ending a lab


def _up(arguments: argparse.Namespace) -> int:
    lab = load(arguments.file)
    name = arguments.name or lab.name
    started = time.monotonic()
    with translate_errors():
        from sim.worlds.kernel.run import start_kernel_lab
        from sim.worlds.kernel.supervision.registry import check_name

        try:
            check_name(name)
        except ValueError as error:
            raise WrongInput(f"--name: {error}") from error
        settings, events = image_settings(lab, arguments), not arguments.no_events
        if settings is None:
            start_kernel_lab(lab, name, arguments.seed, events=events)
        else:
            from sim.worlds.image.run import start_image_lab

            start_image_lab(lab, name, settings, arguments.seed, events=events)
    about = {**request(name, "about"), "start_seconds": round(time.monotonic() - started, 3)}
    if arguments.json:
        print_json(about)
    else:
        _print_up(about)
    return OK


def _print_up(about: dict[str, Any]) -> None:
    from sim.worlds.kernel import running

    print(f"{about['lab']} is up after {about['start_seconds']:.1f} s\n")
    width = max(map(len, about["hosts"]))
    for host, addresses in about["hosts"].items():
        print(f"  {host:{width}}  {', '.join(f'{name} {address}' for name, address in addresses.items())}")
    print(f"\nLinks\n  {', '.join(about['links'])}\n\nNext steps")
    option = f" --lab {about['lab']}" if len(running()) > 1 else ""
    instrument = next(host for host in about["hosts"] if host.startswith("instrument"))
    for line, purpose in (
        (f"watch{option}", "show its live state"),
        (f"shell{option} {instrument}", "open a shell on one of its hosts"),
        (f"link{option} uplink down", "disconnect a link; `up` reconnects it"),
        (f"fault{option} power-cut box --lasts 10s", "inject a fault; `--list` shows the kinds"),
        (f"capture{option} uplink FILE.pcapng", "capture packets for Wireshark"),
        (f"down {about['lab'] if option else ''}".rstrip(), "end it; with `--report DIR`, evaluate it first"),
    ):
        print(f"  rap lab {line:36}  {purpose}")


def _down(arguments: argparse.Namespace) -> int:
    with translate_errors():
        from sim.worlds.kernel import down, running

    if arguments.all and (arguments.lab or arguments.report):
        raise WrongInput("--all cannot be combined with a name or --report")
    names = running() if arguments.all else [choose_lab(arguments.lab)]
    if arguments.all and names:
        choose_lab(names[0])  # checks the permissions
    if arguments.report is None:
        for name in names:
            with translate_errors():
                down(name)
        if arguments.json:
            print_json({"ended": names})
        return OK
    return _evaluate_and_end(names[0], arguments)


def _evaluate_and_end(name: str, arguments: argparse.Namespace) -> int:
    import msgspec

    from sim.verdict.result import Result
    from sim.worlds.kernel import down

    make_folder(arguments.report)
    result = msgspec.convert(request(name, "finish"), Result)
    with translate_errors():
        down(name)
    return show_result(result, arguments.report, json=arguments.json)


# -- observing a lab


def _ps(arguments: argparse.Namespace) -> int:
    with translate_errors():
        from sim.worlds.kernel import running
    if arguments.json:
        print_json(running())
    else:
        print("\n".join(running()) or "no lab is running; start one with `rap lab up FILE`")
    return OK


def _watch(arguments: argparse.Namespace) -> int:
    name = choose_lab(arguments.lab)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM also restores the terminal
    every_s = _JSON_SECONDS if arguments.json else _WATCH_SECONDS
    states = _states(name, every_s, arguments.seconds)
    with suppress(KeyboardInterrupt):
        if arguments.json:
            _watch_lines(states)
        elif sys.stdout.isatty():
            _watch_screen(states)
        else:
            _watch_once(states)
    return OK


def _states(name: str, every_s: float, duration_s: float | None) -> Iterator[tuple[LabState, LabState]]:
    """Yield pairs of consecutive states, until the time is over or the lab has ended."""
    from sim.worlds.kernel import NoSuchLab, RequestRefused
    from sim.worlds.kernel.live.screen import watch_states

    end = None if duration_s is None else time.monotonic() + duration_s
    with suppress(NoSuchLab, RequestRefused, ConnectionError):
        for states in watch_states(name, every_s):
            yield states
            if end is not None and time.monotonic() >= end:
                return
    if end is None or time.monotonic() < end:
        print(f"rap: the lab {name} has ended", file=sys.stderr)


def _watch_lines(states: Iterator[tuple[LabState, LabState]]) -> None:
    from sim.worlds.kernel.live.screen import document

    for before, now in states:
        print(json.dumps(document(before, now), ensure_ascii=False), flush=True)


def _watch_screen(states: Iterator[tuple[LabState, LabState]]) -> None:
    from rich.console import Console
    from rich.live import Live

    from sim.worlds.kernel.live.screen import screen

    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        for before, now in states:
            live.update(screen(before, now), refresh=True)


def _watch_once(states: Iterator[tuple[LabState, LabState]]) -> None:
    from rich.console import Console

    from sim.worlds.kernel.live.screen import screen

    for before, now in states:
        Console(highlight=False).print(screen(before, now))
        return


def _shell(arguments: argparse.Namespace) -> int:
    command = arguments.words
    if len(command) > 1 and command[0] == "--lab":  # REMAINDER includes the option
        arguments.lab, command = command[1], command[2:]
    name = choose_lab(arguments.lab)
    path = os.pathsep.join(
        (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")
    )
    with translate_errors():
        from sim.worlds.kernel import call_in_host

        prompt = f"[{name} {arguments.host}] \\w\\$ " if _bash() else f"[{name} {arguments.host}] # "
        command = command or _console(name, arguments.host) or _bash() or ["sh"]
        return call_in_host(name, arguments.host, command, {"PATH": path, "PS1": prompt})


def _console(name: str, host: str) -> list[str]:
    """Return the command for the serial console of a host that has one."""
    sockets = request(name, "about")["consoles"]
    module = "sim.worlds.image.machine.console"
    return [sys.executable, "-m", module, sockets[host]] if host in sockets else []


def _bash() -> list[str]:
    bash = shutil.which("bash")
    return [bash, "--norc", "--noprofile"] if bash else []
