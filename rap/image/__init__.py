"""`rap image`: kickstarts, the box's package, disk images and installer ISOs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rap.image.check import add_check
from rap.image.release import add_release
from rap.outcome import FAILED, OK, CommandError, MachineLacks, WrongInput
from rap.parser import Parser, byte_count, refuse_options

if TYPE_CHECKING:
    from imaging.build.build import BuildResult
    from imaging.kickstart.lint import LintReport


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap image`."""
    _add_ks(parser)
    _add_rpm(parser)
    _add_build(parser)
    add_check(parser)
    add_release(parser)


def _add_ks(parser: Parser) -> None:
    ks = parser.add_command("ks", "assemble the kickstart of a site, or check a kickstart")
    ks.add_argument("site", metavar="SITE", type=Path, nargs="?", help="site file to assemble from")
    ks.add_argument("--release", metavar="NAME", help="such as rhel9; default: that of the site or kickstart")
    ks.add_argument("-o", "--output", metavar="FILE", type=Path, help="default: standard output")
    ks.add_argument("--check", metavar="FILE", type=Path, help="check this kickstart instead")
    ks.add_argument(
        "--repo",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="with --check: a package repository; may be repeated",
    )
    ks.add_argument("--board", metavar="NAME", help="with --check: the board of the box")
    ks.add_argument("--disk-bytes", metavar="N", type=byte_count, help="with --check: size of the disk")
    ks.add_argument(
        "--errors",
        action="store_true",
        help="with --check: only errors; warnings do not change the exit status",
    )
    ks.add_argument("--json", action="store_true", help="with --check: one JSON document on standard output")
    ks.set_command(_ks)


def _ks(arguments: argparse.Namespace) -> int:
    if (arguments.site is None) == (arguments.check is None):
        raise WrongInput("give either a site file to assemble from, or --check and a kickstart")
    if arguments.check is None:
        refuse_options(arguments, "--check", ("repo", "board", "disk_bytes", "errors", "json"))
        return _assemble(arguments)
    refuse_options(arguments, "a site file", ("output",))
    return _check(arguments)


def _assemble(arguments: argparse.Namespace) -> int:
    from imaging.kickstart.assemble import assemble
    from imaging.kickstart.data import releases
    from imaging.kickstart.site import load_site
    from settings.problems import SettingsError

    if arguments.release and arguments.release not in releases():
        raise WrongInput(f"--release {arguments.release}: must be one of {', '.join(releases())}")
    try:
        text = assemble(load_site(arguments.site), arguments.site, arguments.release or "")
    except SettingsError as error:
        raise WrongInput(str(error)) from error
    if arguments.output is None:
        print(text, end="")
        return OK
    try:
        arguments.output.touch(0o600)  # it contains password hashes, and perhaps the proxy's password
        arguments.output.write_text(text, "utf-8")
    except OSError as error:
        raise WrongInput(f"--output {arguments.output}: cannot be written: {error.strerror}") from error
    return OK


def _check(arguments: argparse.Namespace) -> int:
    from imaging.kickstart.document import KickstartUnreadable
    from imaging.kickstart.lint import UnknownVersion, lint
    from imaging.repository.repository import Repository, RepositoryError
    from settings.board import load_board
    from settings.problems import SettingsError

    try:
        report = lint(
            arguments.check,
            arguments.release or "",
            [Repository.load(folder) for folder in arguments.repo],
            load_board(arguments.board) if arguments.board else None,
            arguments.disk_bytes,
        )
    except (SettingsError, KickstartUnreadable, RepositoryError, UnknownVersion) as error:
        raise WrongInput(str(error)) from error
    if arguments.errors:
        report = replace(
            report, findings=[finding for finding in report.findings if finding.severity == "error"]
        )
    if arguments.json:
        print(json.dumps(_as_document(report), indent=2, ensure_ascii=False))
    else:
        _print_report(report)
    return FAILED if report.findings else OK


def _as_document(report: LintReport) -> dict[str, Any]:
    return {
        "file": str(report.path),
        "version": report.version,
        "verdict": "fail" if report.findings else "pass",
        "findings": [asdict(finding) for finding in report.findings],
    }


def _print_report(report: LintReport) -> None:
    for finding in report.findings:
        mark = " [warning]" if finding.severity == "warning" else ""
        print(f"{finding.file}:{finding.line}: {finding.rule}: {finding.problem}{mark}\n    {finding.repair}")
    if not report.findings:
        print(f"{report.path}: OK ({report.version})")


def _add_rpm(parser: Parser) -> None:
    rpm = parser.add_command("rpm", "build the box program's package")
    rpm.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("build"), help="default: build")
    rpm.add_argument("--release", metavar="NAME", default="rhel9", help="rhel9 (default) or rhel10")
    rpm.add_argument(
        "--python", metavar="VERSION", default="", help="default: the Python version of the release"
    )
    rpm.add_argument(
        "--wheels", metavar="DIR", type=Path, help="use the wheels in this directory instead of the network"
    )
    rpm.add_argument(
        "--no-bytecode",
        action="store_true",
        help="do not compile bytecode; for a Python that is not installed here",
    )
    rpm.set_command(_rpm)


def _rpm(arguments: argparse.Namespace) -> int:
    from imaging.programs import PrerequisiteMissing
    from imaging.rpm.build import build_rpm
    from imaging.rpm.contents import RpmError

    request = arguments.output, arguments.release, arguments.python, arguments.wheels
    try:
        built = build_rpm(*request, bytecode=not arguments.no_bytecode)
    except RpmError as error:
        raise WrongInput(str(error)) from error
    except PrerequisiteMissing as error:
        raise MachineLacks(str(error)) from error
    print(f"{built.path}\nSHA-256 {built.sha256}")
    return OK


def _add_build(parser: Parser) -> None:
    build = parser.add_command("build", "build a disk image or an installer ISO from a kickstart")
    build.add_argument("kickstart", metavar="KICKSTART", type=Path)
    build.add_argument(
        "--repo",
        metavar="DIR_OR_URL",
        action="append",
        required=True,
        help="a package repository; may be repeated",
    )
    build.add_argument(
        "-o", "--output", metavar="DIR", type=Path, default=Path("build/images"), help="default: %(default)s"
    )
    build.add_argument(
        "--work", metavar="DIR", type=Path, help="cache that is reused by the next build; default: DIR/work"
    )
    build.add_argument(
        "--disk-bytes",
        metavar="N",
        type=byte_count,
        default=0,
        help="size of the disk; default: the sum of the partitions",
    )
    build.add_argument("--release", metavar="NAME", help="such as rhel9; default: that of the kickstart")
    build.add_argument(
        "--iso", metavar="FILE", type=Path, help="build an installer ISO from this boot ISO instead"
    )
    build.add_argument("--key", metavar="PEM", type=Path, help="sign with this Ed25519 key")
    build.add_argument("--compress", action="store_true", help="also write a compressed image, ….raw.zst")
    build.add_argument("--json", action="store_true", help="one JSON document on standard output")
    build.set_command(_build)


def _build(arguments: argparse.Namespace) -> int:
    from imaging.build.build import build
    from imaging.build.progress import BuildProgress
    from imaging.build.types import BuildFailed, BuildRequest, InvalidBuildRequest, UnsupportedCommand
    from imaging.kickstart.document import KickstartUnreadable
    from imaging.kickstart.lint import UnknownVersion, version_of
    from imaging.programs import PrerequisiteMissing
    from imaging.signing import SigningError

    if arguments.iso:
        return _build_iso(arguments)
    work = arguments.work or arguments.output / "work"
    try:
        version = version_of(arguments.kickstart, arguments.release or "")
        request = BuildRequest(
            *(arguments.kickstart, version, tuple(arguments.repo), arguments.output, work),
            *(arguments.disk_bytes, arguments.key, arguments.compress),
        )
        with BuildProgress() as progress:
            built = build(request, progress.step, progress.log)
    except (
        KickstartUnreadable,
        UnsupportedCommand,
        SigningError,
        UnknownVersion,
        InvalidBuildRequest,
    ) as error:
        raise WrongInput(str(error)) from error
    except PrerequisiteMissing as error:
        raise MachineLacks(str(error)) from error
    except BuildFailed as error:
        raise CommandError(str(error)) from error
    _print_built(built, arguments.json)
    return OK


def _build_iso(arguments: argparse.Namespace) -> int:
    from imaging.build.iso import IsoError, make_iso, sign_iso
    from imaging.build.progress import BuildProgress
    from imaging.build.types import BuildFailed
    from imaging.kickstart.document import KickstartUnreadable
    from imaging.kickstart.lint import UnknownVersion
    from imaging.programs import PrerequisiteMissing
    from imaging.signing import SigningError, load_private_key

    refuse_options(
        arguments, "a disk image; it cannot be used with --iso", ("work", "disk_bytes", "release", "compress")
    )
    target = arguments.output / f"{arguments.kickstart.stem}.iso"
    folders = [Path(repository) for repository in arguments.repo]
    for path in (arguments.kickstart, *folders):
        if not path.exists():
            raise WrongInput(
                f"{path}: does not exist; an ISO is built from a kickstart and directories of packages (--repo)"
            )
    try:
        key = load_private_key(arguments.key) if arguments.key else None
        arguments.output.mkdir(parents=True, exist_ok=True)
        with BuildProgress() as progress:
            make_iso(arguments.iso, arguments.kickstart, folders, target, progress.log)
        signed = sign_iso(target, arguments.iso, arguments.kickstart, key) if key else []
    except (IsoError, KickstartUnreadable, SigningError, UnknownVersion) as error:
        raise WrongInput(str(error)) from error
    except OSError as error:
        raise WrongInput(f"--output {arguments.output}: cannot be written: {error.strerror}") from error
    except PrerequisiteMissing as error:
        raise MachineLacks(str(error)) from error
    except BuildFailed as error:
        raise CommandError(str(error)) from error
    files = [str(file) for file in (target, *signed)]
    print(json.dumps({"image": files[0], "files": files}) if arguments.json else "\n".join(files))
    return OK


def _print_built(built: BuildResult, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {**asdict(built), "image": str(built.image), "files": [str(file) for file in built.files]}
            )
        )
        return
    print(
        f"{built.image}: {built.disk_bytes:,} bytes, {built.mapped_bytes:,} of them used, {built.packages} packages"
    )
    print(f"SHA-256 {built.sha256}")
