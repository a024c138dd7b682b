"""`rap image release`: signed releases, as The Update Framework specifies them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser

UPLINK_BITS_PER_SECOND: Final = 128_000
"""The rate of a slow uplink, for which the transfer time of a delta is printed."""

if TYPE_CHECKING:
    from imaging.release.repository import ReleaseRepository, RoleKeyFiles


def add_release(parser: Parser) -> None:
    """Add the verb and its commands."""
    release = parser.add_command("release", "sign releases for boxes, or check them as a box does")
    create = release.add_command("create", "create a folder of releases")
    _add_folder(create)
    create.add_argument(
        "--root-key",
        metavar="PEM",
        type=Path,
        action="append",
        required=True,
        help="a private key that is kept offline; at least three, of which any two sign a new root",
    )
    _add_keys(create)
    create.set_command(_create)
    add = release.add_command("add", "release a file")
    _add_folder(add)
    add.add_argument("file", metavar="FILE", type=Path)
    add.add_argument("--version", metavar="VERSION", required=True, help="the version of the release")
    _add_keys(add)
    add.set_command(_add)
    slot = release.add_command(
        "add-slot", "release the image of a root slot, with deltas from earlier releases"
    )
    _add_folder(slot)
    slot.add_argument(
        "image", metavar="IMAGE", type=Path, help="a disk image of `rap image build`, or the slot alone"
    )
    _add_name(slot)
    slot.add_argument(
        "--delta-from",
        metavar="NAME",
        action="append",
        default=[],
        help="an earlier release to make a delta from; may be given several times",
    )
    _add_keys(slot)
    slot.set_command(_add_slot)
    data = release.add_command(
        "add-data", "release profiles, settings and help files, which boxes use without a restart"
    )
    _add_folder(data)
    data.add_argument(
        "files",
        metavar="FILES",
        type=Path,
        help="a folder with any of profiles/<model>.toml, settings/sending.toml, help/<model>/<name> and help/<name>",
    )
    _add_name(data)
    _add_keys(data)
    data.set_command(_add_data)
    delta = release.add_command("delta", "make a delta between the images of two root slots")
    for name in ("source", "target"):
        delta.add_argument(name, metavar=name.upper(), type=Path, help="a disk image, or a slot alone")
    delta.add_argument("-o", "--output", metavar="FILE", type=Path, required=True)
    delta.add_argument("--json", action="store_true", help="one JSON document on standard output")
    delta.set_command(_delta)
    withdraw = release.add_command("withdraw", "remove a file from the releases")
    _add_folder(withdraw)
    withdraw.add_argument("name", metavar="NAME")
    _add_keys(withdraw)
    withdraw.set_command(_withdraw)
    renew = release.add_command("renew", "sign a new timestamp, which is valid for 30 days")
    _add_folder(renew)
    renew.add_argument("--online-key", metavar="PEM", type=Path, required=True)
    renew.set_command(_renew)
    check = release.add_command("check", "check releases as a box does, from the root that it trusts")
    _add_folder(check)
    check.add_argument(
        "--root", metavar="FILE", type=Path, required=True, help="the root that came with the box"
    )
    check.add_argument("--json", action="store_true", help="one JSON document on standard output")
    check.set_command(_check)


def _add_folder(parser: Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the folder of the releases")


def _add_name(parser: Parser) -> None:
    parser.add_argument("--release", metavar="NAME", required=True, help="the name of the release")
    parser.add_argument(
        "--number",
        metavar="N",
        type=int,
        required=True,
        help="the number of the release, higher than all earlier ones",
    )
    parser.add_argument(
        "--floor",
        metavar="N",
        type=int,
        default=0,
        help="boxes with this release refuse lower numbers; default: 0",
    )


def _add_keys(parser: Parser) -> None:
    parser.add_argument("--targets-key", metavar="PEM", type=Path, required=True, help="signs releases")
    parser.add_argument(
        "--online-key", metavar="PEM", type=Path, required=True, help="signs snapshots and timestamps"
    )


def _create(arguments: argparse.Namespace) -> int:
    from imaging.release.repository import ReleaseRepository

    with _errors_reported():
        ReleaseRepository(arguments.folder).create(arguments.root_key, _keys(arguments), _now())
    return OK


def _add(arguments: argparse.Namespace) -> int:
    from imaging.release.repository import ReleaseRepository

    with _errors_reported():
        custom = {"version": arguments.version}
        ReleaseRepository(arguments.folder).add(arguments.file, _keys(arguments), _now(), custom)
    return OK


def _add_slot(arguments: argparse.Namespace) -> int:
    from imaging.release.repository import NewRelease, ReleaseRepository
    from imaging.release.slots import release_slot

    release = NewRelease(arguments.release, arguments.number, arguments.floor)
    with _errors_reported():
        repository = ReleaseRepository(arguments.folder)
        names = release_slot(
            repository, arguments.image, release, _keys(arguments), _now(), arguments.delta_from
        )
    _print_sizes(repository, names)
    return OK


def _add_data(arguments: argparse.Namespace) -> int:
    from imaging.release.data import release_data
    from imaging.release.repository import NewRelease, ReleaseRepository

    release = NewRelease(arguments.release, arguments.number, arguments.floor)
    with _errors_reported():
        repository = ReleaseRepository(arguments.folder)
        names = release_data(repository, arguments.files, release, _keys(arguments), _now())
    _print_sizes(repository, names)
    return OK


def _print_sizes(repository: ReleaseRepository, names: list[str]) -> None:
    for name in names:
        print(f"{name}  {(repository.targets / name).stat().st_size} bytes")


def _delta(arguments: argparse.Namespace) -> int:
    from imaging.release.delta import DeltaInputError, make_delta

    with _errors_reported():
        try:
            data = make_delta(arguments.source, arguments.target)
        except DeltaInputError as error:
            raise WrongInput(str(error)) from error
        arguments.output.write_bytes(data)
    seconds = len(data) * 8 / UPLINK_BITS_PER_SECOND
    if arguments.json:
        print(json.dumps({"bytes": len(data), "seconds_at_128_kbit": round(seconds, 1)}))
    else:
        print(f"{arguments.output}: {len(data)} bytes, {seconds:.0f} s at 128 kbit/s")
    return OK


def _withdraw(arguments: argparse.Namespace) -> int:
    from imaging.release.repository import ReleaseRepository

    with _errors_reported():
        ReleaseRepository(arguments.folder).withdraw(arguments.name, _keys(arguments), _now())
    return OK


def _renew(arguments: argparse.Namespace) -> int:
    from imaging.release.repository import ReleaseRepository

    with _errors_reported():
        ReleaseRepository(arguments.folder).renew(arguments.online_key, _now())
    return OK


@contextmanager
def _errors_reported() -> Iterator[None]:
    from imaging.release.repository import ReleaseError
    from imaging.release.slot_image import SlotImageError
    from wire.pki.signature import SignatureError

    try:
        yield
    except (ReleaseError, SignatureError, SlotImageError) as error:
        raise WrongInput(str(error)) from error
    except OSError as error:
        raise WrongInput(f"{error.filename}: {error.strerror}") from error


def _check(arguments: argparse.Namespace) -> int:
    from wire.release.folder import read_releases
    from wire.release.metadata import MetadataError

    try:
        with _errors_reported():
            targets = read_releases(arguments.folder, arguments.root.read_bytes(), _now().timestamp())
    except MetadataError as error:
        print(f"refused: {error}")
        return FAILED
    if arguments.json:
        print(
            json.dumps({name: {"length": target.length, **target.custom} for name, target in targets.items()})
        )
    else:
        for name, target in targets.items():
            print(f"{name}  {target.length} bytes  {target.custom.get('version', '')}")
    return OK


def _keys(arguments: argparse.Namespace) -> RoleKeyFiles:
    from imaging.release.repository import RoleKeyFiles

    return RoleKeyFiles(arguments.targets_key, arguments.online_key)


def _now() -> datetime:
    return datetime.now(UTC)
