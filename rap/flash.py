"""`rap flash`: write images to disks, for field installers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rap.outcome import FAILED, OK, CommandError, MachineLacks, WrongInput
from rap.parser import Parser

if TYPE_CHECKING:
    from imaging.disks.machine import Device, StationMachine
    from imaging.flash.job import Job
    from imaging.flash.record import FlashRecord
    from imaging.flash.target import BlockDevice

SIGNING_KEY: Final = Path("/etc/rap/image-signing.pub")


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap flash`."""
    listing = parser.add_command("list", "list the disks, their contents, and why a disk must not be written")
    listing.add_argument("--json", action="store_true", help="one JSON document on standard output")
    listing.set_command(_list)
    _add_write(parser)
    identity = parser.add_command(
        "identity", "read the certificate request of a written disk, or install its certificate"
    )
    identity.add_argument("device", metavar="DEVICE", type=Path)
    identity.add_argument(
        "--csr", metavar="FILE", type=Path, help="write the certificate request to this file"
    )
    identity.add_argument("--certificate", metavar="FILE", type=Path, help="install this certificate")
    identity.add_argument(
        "--vendor-ca",
        metavar="FILE",
        type=Path,
        help="with --certificate: the CA of the instruments' certificates",
    )
    identity.add_argument(
        "--datacenter-root",
        metavar="FILE",
        type=Path,
        help="with --certificate: the CA of the data center's certificate",
    )
    identity.add_argument(
        "--pki", metavar="DIR", type=Path, help="issue the certificate from this directory of `rap pki`"
    )
    identity.set_command(_identity)
    verify = parser.add_command("verify", "compare a disk with the record written by `rap flash write`")
    verify.add_argument("device", metavar="DEVICE", type=Path)
    verify.add_argument("--record", metavar="FILE", type=Path, required=True)
    verify.add_argument(
        "--only",
        metavar="LABEL",
        action="append",
        default=[],
        help="compare only this partition; may be repeated",
    )
    verify.add_argument("--json", action="store_true", help="one JSON document on standard output")
    verify.set_command(_verify)


def _add_write(parser: Parser) -> None:
    write = parser.add_command("write", "write a signed image to a disk and verify it by reading it back")
    write.add_argument(
        "image",
        metavar="IMAGE",
        type=Path,
        help="….raw or ….raw.zst, with its accompanying files in the same directory",
    )
    write.add_argument("device", metavar="DEVICE", type=Path, help="such as /dev/sdb")
    write.add_argument(
        "--key",
        metavar="FILE",
        type=Path,
        default=SIGNING_KEY,
        help="public key that verifies the image's signature",
    )
    write.add_argument("--serial", metavar="TEXT", help="the disk's serial number, instead of the prompt")
    write.add_argument("--resume", action="store_true", help="continue an interrupted write")
    write.add_argument("--box", metavar="NAME", help="create an identity for this box, such as RAP-0001")
    write.add_argument("--site", metavar="FILE", type=Path, help="with --box: its site file")
    write.add_argument("--csr", metavar="FILE", type=Path, help="with --box: write its certificate request")
    write.add_argument(
        "--pki",
        metavar="DIR",
        type=Path,
        help="with --box: issue its certificate from this directory of `rap pki`",
    )
    write.add_argument(
        "--record", metavar="FILE.json", type=Path, help="default: flash-NAME.json in the current directory"
    )
    write.add_argument("--json", action="store_true", help="print the record")
    write.set_command(_write)


def _list(arguments: argparse.Namespace) -> int:
    from imaging.disks.linux import gather
    from imaging.disks.machine import size_text
    from imaging.disks.refusals import refusals

    machine = gather()
    disks = [(disk, refusals(machine, disk.name)) for disk in machine.disks()]
    if arguments.json:
        print(json.dumps([_as_document(machine, disk, reasons) for disk, reasons in disks], indent=2))
        return OK
    from rich.console import Console

    console = Console(highlight=False)
    for disk, reasons in disks:
        facts = (
            disk.model or disk.file,
            size_text(disk.bytes),
            disk.bus,
            disk.serial and f"serial {disk.serial}",
        )
        console.print(f"/dev/{disk.name}", style="bold", end="  ")
        console.print(", ".join(filter(None, facts)), markup=False, soft_wrap=True)
        console.print(
            f"    contains {_contents(machine, disk) or 'nothing recognized'}", markup=False, soft_wrap=True
        )
        for reason in reasons:
            console.print(f"    protected: {reason}", style="red", markup=False, soft_wrap=True)
        if not reasons:
            console.print("    writable", style="green")
    return OK


def _contents(machine: StationMachine, disk: Device) -> str:
    whole_disk = [", ".join(disk.holds)] if disk.holds else []
    partitions = [d for d in machine.devices if d.kind == "partition" and disk.name in d.over and d.holds]
    return "; ".join(whole_disk + [f"{d.name}: {', '.join(d.holds)}" for d in partitions])


def _as_document(machine: StationMachine, disk: Device, reasons: list[str]) -> dict[str, Any]:
    shown = {name: getattr(disk, name) for name in ("name", "model", "bytes", "bus", "serial", "file")}
    return {**shown, "holds": _contents(machine, disk), "may_be_written": not reasons, "reasons": reasons}


def _write(arguments: argparse.Namespace) -> int:
    from imaging.flash import job, record_pdf  # noqa: F401 - fail before writing if one is missing

    _check_options(arguments)
    outputs = _outputs(arguments)
    try:
        with job.prepare(arguments.image, arguments.key, arguments.device) as prepared:
            _confirm(prepared, arguments.serial)
            if arguments.box:
                prepared.give_identity(arguments.box, arguments.site, arguments.pki, arguments.resume)
            if prepared.encrypted:
                names = ", ".join(sorted(prepared.encrypted))
                print(
                    f"{arguments.box} will encrypt {names} at its first start, with the key in its TPM 2.0; "
                    "without a TPM it does not start",
                    file=sys.stderr,
                )
            with _ProgressBar(prepared.total_bytes) as progress:
                record = prepared.run(arguments.resume, progress)
            _save(record, prepared, arguments.csr, *outputs)
    except job.FlashRefused as error:
        raise WrongInput(f"{error}. Nothing was written") from error
    except job.Interrupted as error:
        raise _error_class(error)(
            f"{error}\n{arguments.device} is not bootable now; after fixing the problem, "
            "repeat the command with --resume"
        ) from error
    if arguments.json:
        print(outputs[0].read_text("utf-8"), end="")
    else:
        print(*(path for path in (*outputs, arguments.csr) if path), sep="\n")
    return OK


def _check_options(arguments: argparse.Namespace) -> None:
    if bool(arguments.box) != bool(arguments.site):
        raise WrongInput("--box and --site must be given together")
    if (arguments.csr or arguments.pki) and not arguments.box:
        raise WrongInput("--csr and --pki require --box")


def _outputs(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Return the paths of the record (JSON) and its PDF. Raises: WrongInput if a file exists or cannot be created."""
    name = arguments.box or arguments.device.name
    record: Path = arguments.record or Path(f"flash-{name.lower()}.json")
    if record.suffix != ".json":
        raise WrongInput(f"--record {record}: the name must end with .json; a .pdf file is written beside it")
    page = record.with_suffix(".pdf")
    for path in (record, page, arguments.csr):
        if path and path.exists():
            raise WrongInput(
                f"{path} exists and is not overwritten: move it, or give another name with --record"
            )
        if path and not path.parent.is_dir():
            raise WrongInput(f"{path}: the directory {path.parent} does not exist")
    return record, page


def _confirm(job: Job, given: str | None) -> None:
    """Have the user confirm the disk by its serial number. Raises: WrongInput if another one is given."""
    from imaging.disks.machine import size_text

    disk = job.disk
    attribute, hint = ("serial", "") if disk.serial else ("name", " (the disk has no serial)")
    if given is None:
        if not sys.stdin.isatty():
            raise WrongInput(
                f"give the disk's {attribute} with --serial{hint}: standard input is not a terminal"
            )
        print(f"/dev/{disk.name}: {disk.model or disk.file}, {size_text(disk.bytes)}", file=sys.stderr)
        print(
            f"All data on it will be lost. To continue, type its {attribute}{hint}: ", end="", file=sys.stderr
        )
        given = sys.stdin.readline().strip()
    if given != disk.confirmation:
        raise WrongInput(
            f"{given!r} is not the {attribute} of /dev/{disk.name}{hint}; `rap flash list` shows it. "
            "Nothing was written"
        )


def _save(record: FlashRecord, job: Job, csr: Path | None, file: Path, page: Path) -> None:
    from imaging.flash.record import save
    from imaging.flash.record_pdf import save_pdf

    try:
        save(record, file)
        if csr:
            csr.write_bytes(job.request())
        save_pdf(record, page)
    except OSError as error:
        raise MachineLacks(
            f"the disk was written and verified, but {error.filename}: {error.strerror}"
        ) from error


def _error_class(error: Exception) -> type[CommandError]:
    """Return the error class of an interrupted write: a bad image, a failing device, or a failed verification."""
    from imaging.flash.target import DeviceError
    from imaging.flash.write import ReadbackMismatch
    from imaging.media.imagefile import ImageError

    cause = error.__cause__
    if isinstance(cause, ImageError):
        return WrongInput
    if isinstance(cause, DeviceError):
        return MachineLacks
    assert isinstance(cause, ReadbackMismatch)
    return CommandError


def _identity(arguments: argparse.Namespace) -> int:
    from imaging.flash import job
    from settings.identity_archive import DATACENTER_AUTHORITY, VENDOR_AUTHORITY

    given = {VENDOR_AUTHORITY: arguments.vendor_ca, DATACENTER_AUTHORITY: arguments.datacenter_root}
    authorities = {name: file for name, file in given.items() if file}
    if arguments.certificate and arguments.pki:
        raise WrongInput("give either --certificate or --pki")
    if authorities and not arguments.certificate:
        raise WrongInput("--vendor-ca and --datacenter-root require --certificate")
    if not (arguments.csr or arguments.certificate or arguments.pki):
        raise WrongInput("give --csr to read the request, or --certificate or --pki to install a certificate")
    try:
        with job.open_identity(arguments.device) as identity:
            if arguments.csr:
                with arguments.csr.open("xb") as file:
                    file.write(identity.request())
                print(f"{arguments.csr}: the certificate request of {identity.box}")
            if arguments.certificate:
                identity.add_certificate(arguments.certificate, authorities)
            if arguments.pki:
                identity.issue(arguments.pki)
            if arguments.certificate or arguments.pki:
                origin = (
                    f"from {arguments.certificate}"
                    if arguments.certificate
                    else f"issued from {arguments.pki}"
                )
                print(f"{arguments.device}: installed the certificate of {identity.box}, {origin}")
    except FileExistsError as error:
        raise WrongInput(f"{error.filename} exists and is not overwritten: give another name") from error
    except (job.FlashRefused, OSError) as error:
        raise WrongInput(str(error)) from error
    return OK


def _verify(arguments: argparse.Namespace) -> int:
    from imaging.flash import record as records
    from imaging.flash.target import DeviceError
    from settings.identity_archive import LABEL as IDENTITY_LABEL

    record = _load_record(arguments.record, arguments.only)
    target = _open_for_reading(arguments.device)
    try:
        with _ProgressBar(record.written_bytes) as progress:
            differing = records.differences(record, target, lambda size: progress("reading", size))
    except DeviceError as error:
        raise MachineLacks(str(error)) from error
    finally:
        target.close()
    locations = sorted({records.location_of(record, span) for span in differing})
    wrong = [location for location in locations if location != IDENTITY_LABEL]
    if arguments.json:
        document = {"verdict": "fail" if wrong else "pass", "differs": locations}
        print(json.dumps(document, indent=2))
        return FAILED if wrong else OK
    for location in wrong:
        print(f"{location}: differs from the record")
    if IDENTITY_LABEL in locations:
        print(
            f"{IDENTITY_LABEL}: changed as expected: a certificate was installed, or the box has read the identity"
        )
    if not wrong:
        print(f"{arguments.device}: unchanged since it was written at {record.written_at}")
    return FAILED if wrong else OK


def _load_record(file: Path, only: list[str]) -> FlashRecord:
    from imaging.flash import record as records

    try:
        record = records.load(file)
        return records.only(record, only) if only else record
    except records.RecordError as error:
        raise WrongInput(str(error)) from error


def _open_for_reading(path: Path) -> BlockDevice:
    from imaging.flash.target import BlockDevice, DeviceRefused

    try:
        return BlockDevice(path, write=False)
    except DeviceRefused as error:
        raise WrongInput(str(error)) from error


class _ProgressBar:
    """A progress bar for each phase, with rate and remaining time, on standard error, if that is a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TaskID,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description:>12}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._total, self._phases = total, dict[str, TaskID]()

    def __enter__(self) -> _ProgressBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, phase: str, size: int) -> None:
        if phase not in self._phases:
            self._phases[phase] = self._progress.add_task(phase, total=self._total)
        self._progress.advance(self._phases[phase], size)
