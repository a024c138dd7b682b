"""Users and groups: names, numbers and shells."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

from imaging.kickstart.document import SourceLocation
from imaging.kickstart.limits import ACCOUNT_NAME, ON_ROOT, RESERVED_USERS
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

ID_MAX: Final = 2**32 - 2
"""The largest number of an account. The largest uid_t, (uid_t) -1, means "do not change": chown(2)."""
EXISTING_GROUPS: Final = (
    *(
        "root",
        "bin",
        "daemon",
        "sys",
        "adm",
        "tty",
        "disk",
        "lp",
        "mem",
        "kmem",
        "wheel",
        "cdrom",
        "mail",
        "man",
    ),
    *(
        "dialout",
        "floppy",
        "games",
        "tape",
        "video",
        "ftp",
        "lock",
        "audio",
        "users",
        "nobody",
        "utmp",
        "input",
    ),
)
"""The groups of every system: `/etc/group` of the package `setup`, and systemd's `sysusers.d/basic.conf`."""
FIRST_UID: Final = 1000
SYSTEM_FOLDERS: Final = frozenset(
    map(PurePosixPath, ("/", *ON_ROOT, "/boot", "/home", "/opt", "/srv", "/tmp", "/usr", "/var"))  # noqa: S108
)


@risk
def defined_twice(case: Case) -> Faults:
    """The installer uses only one of two users, groups or repositories with the same name.

    Source: pykickstart warns of it, and ksvalidator accepts it.
    """
    seen: dict[tuple[str, str], SourceLocation] = {}
    for command in case.ks.named("user", "group", "repo"):
        key = (command.name, command.data.name)
        if key in seen:
            yield LintFault(
                command.location,
                f"{command.name} {key[1]} is already defined on line {seen[key].line}",
                "rename one",
            )
        seen.setdefault(key, command.location)


@rule
def account_name_form(case: Case) -> Faults:
    """The name of a user or group must be accepted by useradd, and must not be one that every system already has.

    Source: Anaconda, `core/users.py`, check_username and is_valid_name; useradd(8).
    """
    for command in case.ks.named("user", "group"):
        for name in [command.data.name, *command.option("groups")]:
            bare = name.partition("(")[0]  # --groups=NAME(GID)
            if not ACCOUNT_NAME.fullmatch(bare) or bare.isdigit() or bare in (".", ".."):
                yield LintFault(
                    command.location,
                    f"{name!r} is not a valid account name",
                    "use at most 32 letters, digits, and . _ -",
                )
        if command.name == "group" and command.data.name in EXISTING_GROUPS:
            yield LintFault(
                command.location,
                f"group {command.data.name} already exists",
                "leave it out: `user --groups=` adds to it",
                risky=True,
            )
        for name in [name for name in command.option("groups") if "(" in name]:
            if not re.fullmatch(r"[^()]+\(\d+\)\s*", name):
                yield LintFault(
                    command.location, f"--groups={name}: the GID is not a number", "write it like lab(1500)"
                )
        if command.name == "user" and command.data.name in RESERVED_USERS:
            yield LintFault(
                command.location,
                f"user {command.data.name} is reserved for the system",
                "write `rootpw` for root's password"
                if command.data.name == "root"
                else "choose another name",
            )


@rule
def account_number_taken(case: Case) -> Faults:
    """useradd and groupadd refuse a number that is taken.

    Source: useradd(8), --uid; groupadd(8), --gid.
    """
    seen: dict[tuple[str, int], SourceLocation] = {}
    for command in case.ks.named("user", "group"):
        kind = "UID" if command.name == "user" else "GID"
        number = command.data.uid if command.name == "user" else command.data.gid
        if number is None or number == "":
            continue
        key = (kind, int(number))
        if key in seen:
            yield LintFault(
                command.location,
                f"{kind} {number} is already given on line {seen[key].line}",
                "give another, or none",
            )
        seen.setdefault(key, command.location)
        if not 0 < int(number) <= ID_MAX:
            yield LintFault(
                command.location, f"{kind} {number} cannot be given", f"use {FIRST_UID} to {ID_MAX}, or none"
            )
        elif int(number) < FIRST_UID:
            yield LintFault(
                command.location,
                f"{kind} {number} is in the range of the system's own accounts",
                f"use {FIRST_UID} or more",
                risky=True,
            )


@rule
def account_path_form(case: Case) -> Faults:
    """The home folder and the shell are absolute paths, and no field of passwd(5) has a colon.

    Source: useradd(8), --home-dir, --shell and --comment; Anaconda, `core/users.py`, `_reown_homedir`: an existing
    home folder and its content become the user's.
    """
    for command in case.ks.named("user"):
        data = command.data
        for option, example in (("homedir", f"/home/{data.name}"), ("shell", "/bin/bash")):
            given = command.option(option) or ""
            if given and (not given.startswith("/") or ":" in given or " " in given):
                yield LintFault(
                    command.location,
                    f"--{option}={given} is not an absolute path without colons and spaces",
                    f"write it like {example}",
                )
        if (home := PurePosixPath(data.homedir or "")) in SYSTEM_FOLDERS:
            yield LintFault(
                command.location,
                f"--homedir={home} is a folder of the system, which would become the user's",
                f"write it like /home/{data.name}",
            )
        if ":" in (data.gecos or ""):
            yield LintFault(
                command.location,
                "--gecos has a colon, which separates the fields of passwd(5)",
                "leave it out",
            )


@risk
def home_twice(case: Case) -> Faults:
    """Two users must not have the same home folder.

    Source: passwd(5); the first user owns it.
    """
    seen: dict[str, SourceLocation] = {}
    for command in case.ks.named("user"):
        home = command.data.homedir or f"/home/{command.data.name}"
        if home in seen and command.data.homedir:
            yield LintFault(
                command.location, f"{home} is already a home on line {seen[home].line}", "give each its own"
            )
        seen.setdefault(home, command.location)
