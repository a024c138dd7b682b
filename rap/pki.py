"""`rap pki`: certificates for test boxes, instruments and data centers."""

from __future__ import annotations

import argparse
from pathlib import Path

from rap.outcome import HOLDS, WrongInput
from rap.parser import Parser

SUMMARY = "test certificates, all from one folder"


def add_verbs(parser: Parser) -> None:
    """The verbs of `rap pki`."""
    init = parser.word("init", "make the authorities in a new folder")
    init.add_argument("folder", metavar="DIR", type=Path)
    init.does(_init)
    issue = parser.word("issue", "issue a certificate and its key")
    issue.add_argument("folder", metavar="DIR", type=Path, help="where `rap pki init` made the authorities")
    issue.add_argument("name", metavar="NAME", help="serial number, such as RAP-0001 or CHEM-0001")
    issue.add_argument(
        "--for",
        dest="purpose",
        required=True,
        choices=("box", "instrument", "datacenter"),
        help="what it is for",
    )
    issue.add_argument(
        "--host", action="append", default=[], help="DNS name or address it serves; may be repeated"
    )
    issue.add_argument(
        "--csr", metavar="FILE", type=Path, help="for the key in this certificate request; none is made"
    )
    issue.does(_issue)

    revoke = parser.word("revoke", "revoke certificates of boxes and instruments, and issue the list anew")
    revoke.add_argument("folder", metavar="DIR", type=Path, help="where `rap pki init` made the authorities")
    revoke.add_argument("names", metavar="NAME", nargs="*", help="serial numbers; none: only renew the list")
    revoke.does(_revoke)


def _revoke(arguments: argparse.Namespace) -> int:
    from wire.pki import folder as pki_folder

    try:
        print(pki_folder.revoke(arguments.folder, arguments.names))
    except (pki_folder.PkiError, OSError) as error:
        raise WrongInput(str(error)) from error
    return HOLDS


def _init(arguments: argparse.Namespace) -> int:
    from wire.pki import folder as pki_folder

    try:
        paths = pki_folder.init(arguments.folder)
    except (pki_folder.PkiError, OSError) as error:
        raise WrongInput(str(error)) from error
    print(*paths, sep="\n")
    return HOLDS


def _issue(arguments: argparse.Namespace) -> int:
    from wire.pki import folder as pki_folder

    folder, name, purpose, hosts = arguments.folder, arguments.name, arguments.purpose, tuple(arguments.host)
    try:
        if arguments.csr:
            written = pki_folder.issue_for(folder, name, purpose, arguments.csr, hosts)
        else:
            identity = pki_folder.issue(folder, name, purpose, hosts)
            written = [identity.certificate, identity.key, identity.authorities]
    except (pki_folder.PkiError, OSError) as error:
        raise WrongInput(str(error)) from error
    print(*written, sep="\n")
    return HOLDS
