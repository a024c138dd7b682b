"""`rap lab link`, `fault` and `capture`: what a tester does to a lab that runs.

The words go to the lab as they are. It reads them as it would a lab file, and says what would be right.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO, RawIOBase
from socket import SHUT_WR, socket
from typing import Any, Final

from rap.lab import print_json
from rap.lab.live import choose, of_running, request, seconds, told
from rap.outcome import HOLDS, CommandError, WrongInput
from rap.parser import Parser

_SWITCHES: Final = ("down", "up", "restore")
_ENHANCED_PACKET: Final = (6).to_bytes(4, sys.byteorder)
_BLOCK_BYTES_MAX: Final = 1 << 17
_STOPS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def add_verbs(parser: Parser) -> None:
    """The verbs of `rap lab` that change a lab that runs, or listen in."""
    link = of_running(parser.word("link", "pull a link's cable of a running lab, put it back, make it worse"))
    link.add_argument("link", metavar="LINK")
    link.add_argument(
        "change",
        metavar="CHANGE",
        nargs="+",
        help="down | up | restore | any of: rate RATE, delay TIME, jitter TIME, loss PERCENT, queue SIZE",
    )
    link.does(_link)
    fault = of_running(parser.word("fault", "let something go wrong in a running lab"))
    fault.add_argument("words", metavar="KIND TARGET [KEY=VALUE …]", nargs="*", help="as in lab files")
    fault.add_argument("--lasts", metavar="TIME", help="how long; default: until --end, or over at once")
    fault.add_argument("--end", action="store_true", help="end it")
    fault.add_argument("--list", action="store_true", help="what can go wrong, and end there")
    fault.add_argument("--json", action="store_true", help="with --list: one JSON document")
    fault.does(_fault)
    capture = of_running(parser.word("capture", "write a running lab's packets to a file for Wireshark"))
    capture.add_argument("link", metavar="LINK")
    capture.add_argument("file", metavar="FILE", help="pcapng; - for standard output")
    capture.add_argument("--seconds", metavar="N", type=seconds, help="end after so long; default: Ctrl-C")
    capture.does(_capture)


def _link(arguments: argparse.Namespace) -> int:
    change: list[str] = arguments.change
    if change[0] in _SWITCHES and len(change) == 1:
        words: dict[str, object] = {"change": change[0]}
    elif len(change) % 2 == 0 and change[0] not in _SWITCHES:
        words = {"change": "set", "to": dict(zip(change[::2], change[1::2], strict=True))}
    else:
        raise WrongInput(
            f"`{' '.join(change)}` is no change of a link: write down, up or restore,"
            " or what is to change, each with its value: rate 64kbit loss 2%"
        )
    request(choose(arguments.lab), "link", link=arguments.link, **words)
    return HOLDS


def _fault(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list_faults(json=arguments.json)
    if len(arguments.words) < 2:
        raise WrongInput("a fault needs its kind and its target, such as `link-down uplink`; --list has them")
    kind, target, *given = arguments.words
    if arguments.end and (given or arguments.lasts):
        raise WrongInput("--end takes the kind and the target of a fault that is under way, and nothing else")
    parameters = dict(map(_parameter, given))
    name = choose(arguments.lab)
    if arguments.end:
        request(name, "end-fault", kind=kind, target=target)
    else:
        request(name, "fault", kind=kind, target=target, parameters=parameters, lasts=arguments.lasts)
    return HOLDS


def _parameter(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign or not name:
        raise WrongInput(f"{given!r}: give a fault's parameters as KEY=VALUE, such as rate=64kbit")
    return name, value


def _list_faults(*, json: bool) -> int:
    from msgspec.structs import fields

    from settings.toml import describe_field
    from sim.faults import fault_kinds

    faults: list[dict[str, Any]] = [
        {
            "kind": kind,
            "targets": fault.targets,
            "parameters": {field.name: describe_field(field) for field in fields(fault)},
            "what": (fault.__doc__ or "").partition("\n")[0],
        }
        for kind, fault in fault_kinds().items()
        if not fault.emulated
    ]
    if json:
        print_json(faults)
        return HOLDS
    for fault in faults:
        print(f"{fault['kind']}  ({', '.join(fault['targets'])})\n  {fault['what']}")
        for name, rule in fault["parameters"].items():
            print(f"    {name}=…  {rule}")
    return HOLDS


# -- captures


def _capture(arguments: argparse.Namespace) -> int:
    name = choose(arguments.lab)
    with told():
        from sim.worlds.kernel.supervision.control import ask_for_socket

        packets = ask_for_socket(name, {"verb": "capture", "link": arguments.link})
    with packets, _opened(arguments.file) as file, _stops(packets, arguments.seconds):
        count = _copy(packets, file, arguments.file)
    print(f"rap: {count} packets of {arguments.link} captured", file=sys.stderr)
    return HOLDS


def _opened(file: str) -> RawIOBase:
    try:
        return FileIO(1, "w", closefd=False) if file == "-" else FileIO(file, "w")
    except OSError as error:
        raise WrongInput(f"{file}: {error.strerror}; give a file that can be written") from error


@contextmanager
def _stops(packets: socket, length_s: float | None) -> Iterator[None]:
    """Let the lab know when it is enough: at Ctrl-C, or after so long. It sends what it has, and hangs up."""

    def stop(_number: int, _frame: object) -> None:
        with suppress(OSError):  # it has hung up already
            packets.shutdown(SHUT_WR)

    before = {number: signal.signal(number, stop) for number in _STOPS}
    signal.setitimer(signal.ITIMER_REAL, length_s or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _copy(packets: socket, file: RawIOBase, name: str) -> int:
    """Write what comes until the lab hangs up; how many packets it was."""
    count = 0
    while block := packets.recv(_BLOCK_BYTES_MAX):
        try:
            file.write(block)
        except BrokenPipeError:
            break  # whoever read it has seen enough
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}; {count} packets are in it") from error
        count += block.startswith(_ENHANCED_PACKET)
    return count
