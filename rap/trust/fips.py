"""`rap trust fips`: the self-test of the cryptographic module, as the box program runs it at its start."""

from __future__ import annotations

import argparse

from rap.outcome import FAILED, OK
from rap.parser import Parser


def add_verb(parser: Parser) -> None:
    """Add the verb."""
    verb = parser.add_command(
        "fips", "test whether kernel, OpenSSL and Python of this machine are in FIPS mode"
    )
    verb.add_argument("--json", action="store_true", help="one JSON document on standard output")
    verb.set_command(_fips)


def _fips(arguments: argparse.Namespace) -> int:
    import msgspec

    from hal.crypto import FipsCheck
    from hal.linux.crypto import LinuxCryptographicModule

    tested = LinuxCryptographicModule().self_test()
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(tested)).decode())
    else:
        for check in FipsCheck:
            print(f"{check:<14}{tested.failed.get(check, 'passes')}")
        print(f"in force: {tested.module}" if tested.is_passed else "FIPS mode is not in force")
    return OK if tested.is_passed else FAILED
