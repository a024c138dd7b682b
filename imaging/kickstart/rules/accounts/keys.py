"""SSH keys."""

from __future__ import annotations

import base64
from binascii import Error as NotBase64

from imaging.kickstart.rule import Case, Faults, LintFault, risk
from imaging.kickstart.site import FIPS_KEY_KINDS


@risk
def ssh_key_form(case: Case) -> Faults:
    """sshd must be able to read the key, and to accept it in FIPS mode.

    Source: RFC 4253, 6.6; sshd(8).
    """
    for command in case.ks.named("sshkey"):
        fields = str(command.data.key).split()
        if len(fields) < 2 or not _is_key(fields[0], fields[1]):
            yield LintFault(
                command.location,
                "this is not an SSH public key",
                'write it quoted and whole: "ecdsa-sha2-nistp256 AAAA… name"',
            )
        elif fields[0] not in FIPS_KEY_KINDS:
            yield LintFault(
                command.location,
                f"a key of kind {fields[0]} is refused in FIPS mode",
                f"use {', '.join(FIPS_KEY_KINDS)}",
            )


@risk
def key_without_user(case: Case) -> Faults:
    """A key must be for root or for a user that the kickstart creates.

    Source: RHEL's kickstart reference, `sshkey`.
    """
    users = {command.data.name for command in case.ks.named("user")} | {"root"}
    for command in case.ks.named("sshkey"):
        if command.data.username not in users and not case.ks.open_ended:
            yield LintFault(
                command.location,
                f"there is no user {command.data.username}",
                f"name one of {', '.join(sorted(users))}, or add `user`",
            )


def _is_key(kind: str, text: str) -> bool:
    """Return whether the text is a complete public key in base64: fields with lengths, the first of which is `kind`.

    Source: RFC 4253, 6.6.
    """
    try:
        blob = base64.b64decode(text, validate=True)
    except (NotBase64, ValueError):
        return False
    fields, at = [], 0
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        fields.append(blob[at + 4 : end])
        at = end
    return at == len(blob) and len(fields) > 1 and fields[0] == kind.encode()
