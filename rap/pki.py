"""`rap pki`: certificates for test boxes, instruments and data centers."""

from __future__ import annotations

import argparse
from pathlib import Path

from rap.outcome import OK, WrongInput
from rap.parser import Parser


def add_verbs(parser: Parser) -> None:
    """Add the verbs of `rap pki`."""
    init = parser.add_command("init", "create the CAs in a new directory")
    init.add_argument("folder", metavar="DIR", type=Path)
    init.set_command(_init)
    issue = parser.add_command("issue", "issue a certificate and its key")
    issue.add_argument("folder", metavar="DIR", type=Path, help="the directory of `rap pki init`")
    issue.add_argument("name", metavar="NAME", help="serial number, such as RAP-0001 or CHEM-0001")
    issue.add_argument(
        "--for",
        dest="purpose",
        required=True,
        choices=("box", "instrument", "datacenter"),
        help="the kind of certificate",
    )
    issue.add_argument(
        "--host", action="append", default=[], help="DNS name or address of the server; may be repeated"
    )
    issue.add_argument(
        "--csr",
        metavar="FILE",
        type=Path,
        help="use the key of this certificate request instead of a new one",
    )
    issue.set_command(_issue)

    revoke = parser.add_command(
        "revoke", "revoke certificates of boxes and instruments, and reissue the revocation list"
    )
    revoke.add_argument("folder", metavar="DIR", type=Path, help="the directory of `rap pki init`")
    revoke.add_argument(
        "names", metavar="NAME", nargs="*", help="serial numbers; without any, only the list is reissued"
    )
    revoke.set_command(_revoke)


def _revoke(arguments: argparse.Namespace) -> int:
    from wire.pki import directory as pki_directory

    try:
        print(pki_directory.revoke(arguments.folder, arguments.names))
    except (pki_directory.PkiError, OSError) as error:
        raise WrongInput(str(error)) from error
    return OK


def _init(arguments: argparse.Namespace) -> int:
    from wire.pki import directory as pki_directory

    try:
        paths = pki_directory.init(arguments.folder)
    except (pki_directory.PkiError, OSError) as error:
        raise WrongInput(str(error)) from error
    print(*paths, sep="\n")
    return OK


def _issue(arguments: argparse.Namespace) -> int:
    from wire.pki import directory as pki_directory

    folder, name, purpose, hosts = arguments.folder, arguments.name, arguments.purpose, tuple(arguments.host)
    try:
        if arguments.csr:
            written = pki_directory.issue_for(folder, name, purpose, arguments.csr, hosts)
        else:
            identity = pki_directory.issue(folder, name, purpose, hosts)
            written = [identity.certificate, identity.key, identity.authorities]
    except (pki_directory.PkiError, OSError) as error:
        raise WrongInput(str(error)) from error
    print(*written, sep="\n")
    return OK
