"""`rap lab link`, `fault` and `capture`: manipulating and observing a running lab.

The arguments are sent to the lab unchanged. It validates them as it validates a lab file.
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

from rap.lab import print_json, seconds
from rap.lab.live import add_lab_option, choose_lab, request, translate_errors
from rap.outcome import OK, CommandError, WrongInput
from rap.parser import Parser

_SWITCHES: Final = ("down", "up", "restore")
_ENHANCED_PACKET: Final = (6).to_bytes(4, sys.byteorder)
_BLOCK_BYTES_MAX: Final = 1 << 17
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap lab` that change a running lab or capture its packets."""
    link = add_lab_option(
        parser.add_command("link", "disconnect, reconnect or degrade a link of a running lab")
    )
    link.add_argument("link", metavar="LINK")
    link.add_argument(
        "change",
        metavar="CHANGE",
        nargs="+",
        help="down | up | restore | any of: rate RATE, delay TIME, jitter TIME, loss PERCENT, queue SIZE",
    )
    link.set_command(_link)
    fault = add_lab_option(parser.add_command("fault", "inject a fault into a running lab"))
    fault.add_argument("words", metavar="KIND TARGET [KEY=VALUE …]", nargs="*", help="as in lab files")
    fault.add_argument("--lasts", metavar="TIME", help="duration; default: until --end")
    fault.add_argument("--end", action="store_true", help="end the fault")
    fault.add_argument("--list", action="store_true", help="list the kinds of faults and exit")
    fault.add_argument("--json", action="store_true", help="with --list: one JSON document")
    fault.set_command(_fault)
    capture = add_lab_option(
        parser.add_command("capture", "write a running lab's packets to a file for Wireshark")
    )
    capture.add_argument("link", metavar="LINK")
    capture.add_argument("file", metavar="FILE", help="pcapng; - for standard output")
    capture.add_argument("--seconds", metavar="N", type=seconds, help="end after this time; default: Ctrl-C")
    capture.set_command(_capture)


def _link(arguments: argparse.Namespace) -> int:
    change: list[str] = arguments.change
    if change[0] in _SWITCHES and len(change) == 1:
        parameters: dict[str, object] = {"change": change[0]}
    elif len(change) % 2 == 0 and change[0] not in _SWITCHES:
        parameters = {"change": "set", "to": dict(zip(change[::2], change[1::2], strict=True))}
    else:
        raise WrongInput(
            f"`{' '.join(change)}` is not a valid change: give down, up or restore,"
            " or pairs of a property and its value, such as rate 64kbit loss 2%"
        )
    request(choose_lab(arguments.lab), "link", link=arguments.link, **parameters)
    return OK


def _fault(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list_faults(json=arguments.json)
    if len(arguments.words) < 2:
        raise WrongInput(
            "give the kind and the target of a fault, such as `link-down uplink`; --list shows the kinds"
        )
    kind, target, *given = arguments.words
    if arguments.end and (given or arguments.lasts):
        raise WrongInput("--end takes only the kind and the target of an active fault")
    parameters = dict(map(_parameter, given))
    name = choose_lab(arguments.lab)
    if arguments.end:
        request(name, "end-fault", kind=kind, target=target)
    else:
        request(name, "fault", kind=kind, target=target, parameters=parameters, lasts=arguments.lasts)
    return OK


def _parameter(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign or not name:
        raise WrongInput(f"{given!r}: give parameters as KEY=VALUE, such as rate=64kbit")
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
            "worlds": ["image"] if fault.emulated else ["kernel", "image"],
        }
        for kind, fault in fault_kinds().items()
        if not fault.emulated or fault.of_machine
    ]
    if json:
        print_json(faults)
        return OK
    for fault in faults:
        worlds = "" if len(fault["worlds"]) > 1 else ", with --world image"
        print(f"{fault['kind']}  ({', '.join(fault['targets'])}{worlds})\n  {fault['what']}")
        for name, rule in fault["parameters"].items():
            print(f"    {name}=…  {rule}")
    return OK


# -- captures


def _capture(arguments: argparse.Namespace) -> int:
    name = choose_lab(arguments.lab)
    with translate_errors():
        from sim.worlds.kernel.supervision.control import ask_for_socket

        packets = ask_for_socket(name, {"verb": "capture", "link": arguments.link})
    with packets, _open_output(arguments.file) as file, _stop_on_signals(packets, arguments.seconds):
        count = _copy(packets, file, arguments.file)
    print(f"rap: {count} packets of {arguments.link} captured", file=sys.stderr)
    return OK


def _open_output(file: str) -> RawIOBase:
    try:
        return FileIO(1, "w", closefd=False) if file == "-" else FileIO(file, "w")
    except OSError as error:
        raise WrongInput(f"{file}: {error.strerror}; give a writable file") from error


@contextmanager
def _stop_on_signals(packets: socket, duration_s: float | None) -> Iterator[None]:
    """End the capture at Ctrl-C or after `duration_s` seconds: it then sends the last packets and closes."""

    def stop(_number: int, _frame: object) -> None:
        with suppress(OSError):  # the lab has already closed it
            packets.shutdown(SHUT_WR)

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    signal.setitimer(signal.ITIMER_REAL, duration_s or 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _copy(packets: socket, file: RawIOBase, name: str) -> int:
    """Write received packets until the lab closes the connection; return their number."""
    count = 0
    while block := packets.recv(_BLOCK_BYTES_MAX):
        try:
            file.write(block)
        except BrokenPipeError:
            break  # the reader has closed the pipe
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}; {count} packets were written") from error
        count += block.startswith(_ENHANCED_PACKET)
    return count
