"""`rap profile`: instrument profiles, which list the permitted reports of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser

SPLITS = ("whole", "bytes", "every-point")
"""How a recording is delivered: as recorded, byte by byte, or once per byte position, split there in two parts."""


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap profile`."""
    listed = parser.add_command("list", "list the profiles that ship with the program")
    listed.set_command(_list)
    check = parser.add_command("check", "check profiles")
    check.add_argument("files", metavar="FILE", nargs="*", type=Path, help="default: those of the program")
    check.add_argument("--key", metavar="PUB", type=Path, help="also check the signature by this public key")
    check.set_command(_check)
    replay = parser.add_command(
        "replay", "play recorded conversations of instruments against the box's intake"
    )
    replay.add_argument("index", metavar="INDEX", type=Path, help="the index of the conversations (TOML)")
    replay.add_argument("--name", metavar="CASE", help="only this case")
    replay.add_argument(
        "--split", choices=SPLITS, default="whole", help="how each write of the instrument arrives"
    )
    replay.add_argument("--json", action="store_true", help="print the result as JSON")
    replay.set_command(_replay)
    sign = parser.add_command("sign", "sign a profile, so that boxes accept it")
    sign.add_argument("file", metavar="FILE", type=Path)
    sign.add_argument("--key", metavar="KEY", type=Path, required=True, help="the vendor's private key (PEM)")
    sign.set_command(_sign)


def _list(_arguments: argparse.Namespace) -> int:
    from settings.profile import load_profile, profile_names

    for profile in map(load_profile, profile_names()):
        counts = f"{len(profile.channels)} channels, {len(profile.assays)} assays, {len(profile.errors)} error codes"
        print(f"{profile.model:24} {profile.version:4}  {profile.speaks:12} {counts}; {profile.summary}")
    return OK


def _check(arguments: argparse.Namespace) -> int:
    from settings.adapted import AdaptedPort
    from settings.problems import SettingsError
    from settings.profile import DIRECTORY, profile_names, read_profile
    from wire.pki.signature import SignatureError, load_public_key, verify
    from wire.standards.engines import engine_problem

    try:
        key = arguments.key and load_public_key(arguments.key)
    except (SignatureError, OSError) as error:
        raise WrongInput(str(error)) from error
    outcome = OK
    for file in arguments.files or [DIRECTORY / f"{name}.toml" for name in profile_names()]:
        problems: list[str] = []
        profile = None
        try:
            profile = read_profile(file)
            if profile.speaks not in ("agent", "au") and (problem := engine_problem(profile, AdaptedPort())):
                problems.append(f"{file}: {problem}")
        except SettingsError as error:
            problems.append(str(error))
        try:
            if key:
                verify(file.read_bytes(), key)
        except SignatureError as error:
            problems.append(f"{file}: {error}")
        except OSError as error:
            assert problems, error  # a file that cannot be read has been reported above
        if profile is None or problems:
            print(*problems, sep="\n")
            outcome = FAILED
        else:
            signed = ", signature valid" if key else ""
            print(f"{file}: {profile.model}, version {profile.version}: valid{signed}")
    return outcome


def _sign(arguments: argparse.Namespace) -> int:
    from settings.problems import SettingsError
    from settings.profile import read_profile
    from wire.pki.signature import SignatureError, sign

    try:
        profile = read_profile(arguments.file)
        signed = sign(arguments.file.read_bytes(), arguments.key)
        draft = arguments.file.with_name(arguments.file.name + ".new")
        draft.write_bytes(signed)
        draft.replace(arguments.file)
    except (SettingsError, SignatureError, OSError) as error:
        raise WrongInput(str(error)) from error
    print(f"{arguments.file}: {profile.model}, version {profile.version}, is signed")
    return OK


def _replay(arguments: argparse.Namespace) -> int:
    import json

    from settings.problems import SettingsError
    from sim.conversations.casefile import read_conversations
    from sim.conversations.suite import run_case

    try:
        cases = read_conversations(arguments.index)
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    if arguments.name:
        names = [case.name for case in cases]
        cases = [case for case in cases if case.name == arguments.name]
        if not cases:
            raise WrongInput(
                f"{arguments.index}: there is no case {arguments.name}; there are {', '.join(names)}"
            )
    results = [run_case(case, arguments.split) for case in cases]
    if arguments.json:
        print(json.dumps([result.as_table() for result in results], indent=2))
    else:
        for result in results:
            print(f"{'pass' if result.passed else 'FAIL'}  {result.name}, {result.plays} played")
            for problem in result.problems:
                print(f"      {problem}")
    return OK if all(result.passed for result in results) else FAILED
