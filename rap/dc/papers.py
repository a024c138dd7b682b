"""`rap dc papers`: papers and evidence of boxes, which staff file at the data center."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rap.dc.staff import StaffCall, add_staff_verb, staff_call
from rap.outcome import FAILED, OK, WrongInput
from rap.parser import Parser
from rap.utc import utc_minute

if TYPE_CHECKING:
    from datacenter.papers.filed import BoxPapers


def add_papers(parser: Parser) -> None:
    """Add the verbs of `rap dc papers`."""
    show = add_staff_verb(
        parser, "show", "list the files of a box; exit status 1 if the box differs from them", _show
    )
    file = add_staff_verb(parser, "file", "file papers.zip, or the evidence of a box", _file)
    save = add_staff_verb(parser, "save", "write the files of a box to a folder", _save)
    for verb in (show, file, save):
        verb.add_argument("box", metavar="BOX", help="the serial number of the box")
    file.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="papers.zip of `rap trust papers`, or a file of `rap trust evidence`",
    )
    save.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="a new folder")


def _show(arguments: argparse.Namespace) -> int:
    from datacenter.papers.filed import papers_of

    with staff_call(arguments) as call:
        _require(call, "view", arguments.box)
        return _print(arguments, papers_of(call.store, arguments.box))


def _file(arguments: argparse.Namespace) -> int:
    from datacenter.papers.filed import file_upload, papers_of
    from datacenter.papers.upload import UnusableUploadError, read_upload

    with staff_call(arguments) as call:
        _require(call, "file-papers", arguments.box)
        try:
            with arguments.file.open("rb") as content:
                files = read_upload(content)
        except OSError as error:
            raise WrongInput(f"{arguments.file}: {error.strerror}") from error
        except UnusableUploadError as error:
            raise WrongInput(f"{arguments.file}: {error}") from error
        file_upload(call.store, arguments.box, files, call.staff, call.now_ms)
        return _print(arguments, papers_of(call.store, arguments.box))


def _save(arguments: argparse.Namespace) -> int:
    from datacenter.papers.filed import papers_of, read_file

    folder: Path = arguments.output
    with staff_call(arguments) as call:
        _require(call, "export", arguments.box)
        filed = papers_of(call.store, arguments.box)
        files = [*filed.files, *([filed.evidence] if filed.evidence else [])]
        if not files:
            raise WrongInput(f"{arguments.box} has no papers; file them with `rap dc papers file`")
        try:
            folder.mkdir(parents=True)
            for file in files:
                (folder / file.name).write_bytes(read_file(call.store, arguments.box, file.name) or b"")
        except OSError as error:
            raise WrongInput(f"{folder}: {error.strerror}; give a new folder") from error
    if arguments.json:
        print(json.dumps([file._asdict() for file in files], indent=2))
        return OK
    print(f"{len(files)} files in {folder}")
    return OK


def _require(call: StaffCall, action: str, box: str) -> None:
    """Raise WrongInput if the person may not do `action`, or with "there is no box" if they may not view it."""
    from datacenter.fleet.visible import find_box

    resource = find_box(call.store, box)
    if resource is None or not call.decide("view", resource).permitted:
        raise WrongInput(f"there is no box {box}")
    decision = call.decide(action, resource)
    if not decision.permitted:
        raise WrongInput(decision.reason)


def _print(arguments: argparse.Namespace, filed: BoxPapers) -> int:
    compared = filed.comparison
    status = OK if compared is None or compared.agrees else FAILED
    if arguments.json:
        document = {
            "box": filed.box,
            "files": [file._asdict() for file in filed.files],
            "evidence": filed.evidence._asdict() if filed.evidence else None,
            "answers": dict(filed.answers),
            "captured_at": filed.captured_at,
            "agrees": None if compared is None else compared.agrees,
            "deviations": [asdict(deviation) for deviation in compared.deviations] if compared else [],
            "altered": list(compared.altered) if compared else [],
        }
        print(json.dumps(document, indent=2))
        return status
    for file in filed.files:
        stored = utc_minute(file.stored_at_ms)
        print(f"{file.name}  {file.size} bytes  {stored} UTC by {file.staff}  {file.title}")
    if not filed.files:
        print("no papers")
    if filed.evidence is None:
        print("no evidence of the box: collect it on the box with `rap trust evidence`, and file it")
    else:
        print(f"evidence of {filed.captured_at}, filed by {filed.evidence.staff}")
    if compared is not None:
        print("\n".join(compared.lines()))
    return status
