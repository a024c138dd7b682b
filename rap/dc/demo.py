"""`rap dc demo`: checks the arguments, chooses the folder, and prints where to look."""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rap.outcome import OK, MachineLacks, WrongInput

if TYPE_CHECKING:
    from sim.fleet.plan import PlannedBox


def demonstrate(arguments: argparse.Namespace) -> int:
    """Run the demonstration until SIGTERM or SIGINT. Raises: WrongInput; MachineLacks."""
    from sim.fleet.demo import Demo, FleetError, run_demo

    _check(arguments)
    demo = Demo(arguments.instruments, arguments.days, arguments.speed, arguments.seed, arguments.port)
    if arguments.sign_on:
        demo = demo._replace(sign_on=True)
    try:
        with _folder(arguments.directory) as folder:
            run_demo(demo, folder, _print_progress, _print_pages)
    except KeyboardInterrupt:
        return OK
    except (OSError, FleetError) as error:
        raise MachineLacks(f"the demonstration cannot continue: {error}") from error
    return OK


def _check(arguments: argparse.Namespace) -> None:
    from sim.fleet.plan import INSTRUMENTS_MAX

    if arguments.sign_on and find_spec("oidc_provider_mock") is None:
        raise MachineLacks("--sign-on needs oidc-provider-mock: install rap-box[dev]")
    if arguments.sign_on and not arguments.port:
        raise WrongInput("--port 0: give a port number with --sign-on, because the provider must know it")

    if not 1 <= arguments.instruments <= INSTRUMENTS_MAX:
        raise WrongInput(f"--instruments {arguments.instruments}: give a number from 1 to {INSTRUMENTS_MAX}")
    if not 1 <= arguments.days <= 365:
        raise WrongInput(f"--days {arguments.days}: give a number of days from 1 to 365")
    if not 0 < arguments.speed <= 1000:
        raise WrongInput(f"--speed {arguments.speed:g}: give a factor above 0 and up to 1000")
    if not 0 <= arguments.port <= 65535:
        raise WrongInput(
            f"--port {arguments.port}: give a port from 0 to 65535; with 0 the system chooses a free one"
        )
    try:
        with socket.create_server(("127.0.0.1", arguments.port)):
            pass
    except OSError as error:
        raise WrongInput(
            f"--port {arguments.port}: {error.strerror}: give another port, or 0 for a free one"
        ) from error


@contextmanager
def _folder(directory: Path | None) -> Iterator[Path]:
    """Yield the folder for all files: an empty one that is kept, or a temporary one. Raises: WrongInput."""
    if directory is None:
        with TemporaryDirectory(prefix="rap-dc-demo-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise WrongInput(f"--directory {directory}: is not empty; give a new or empty folder")
        (directory / "staff.toml").touch()
    except OSError as error:
        raise WrongInput(
            f"--directory {directory}: {error.strerror}; give a folder that can be written"
        ) from error
    yield directory.resolve()


def _print_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rrap: history of {done} of {total} boxes", end=end, file=sys.stderr, flush=True)


def _print_pages(plan: list[PlannedBox], port: int) -> None:
    from sim.fleet.staff import PEOPLE

    print(f"Data center: http://127.0.0.1:{port}/")
    print(f"Look first at the fleet, then at {plan[-1].place.name}, whose box {plan[-1].serial} cannot send.")
    print("Sign in without a password as")
    for staff, name, *_ in PEOPLE:
        print(f"  {staff:15} {name}")
    print("Ctrl-C ends it.", flush=True)
