"""Syntax errors found by pykickstart, each with the repair."""

from __future__ import annotations

from itertools import zip_longest
from typing import Final

from imaging.kickstart.document import BYTE_ORDER_MARK, HERE_PLAIN, HERE_QUOTED, ParseRefusal
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

# Red Hat, "Automatically installing RHEL", appendix "Changes in kickstart".
REPLACED: Final = {
    "auth": "write `authselect select …`",
    "authconfig": "write `authselect select …`",
    "autostep": "leave it out",
    BYTE_ORDER_MARK: "save the file as UTF-8 without it",
    "clevis": "kickstart has no such command: call `clevis luks bind` in %post",
    "device": "leave it out",
    "deviceprobe": "leave it out",
    "dmraid": "leave it out",
    "install": "leave it out: cdrom, url, nfs and harddrive imply it",
    "method": "write cdrom, url, nfs or harddrive",
    "multipath": "leave it out",
    "nvdimm": "leave it out",
    "upgrade": "kickstart cannot upgrade a system: leave it out, and install",
}
OPTIONS: Final = {
    "--ntpservers": "write `timesource --ntp-server=…`",
    "--nontp": "write `timesource --ntp-disable`",
    "--isUtc": "write --utc",
    "--instLangs": "write --inst-langs",
    "--excludeWeakdeps": "write --exclude-weakdeps",
    HERE_QUOTED: "write the word after << without quotes",
    HERE_PLAIN: "write the word after << in quotes",
}


LISTS: Final = ("--activation-key", "--addon", "--port", "--remove-service", "--service", "--trust")
"""Options that may be given several times, because each occurrence adds to a list."""


@rule
def syntax(case: Case) -> Faults:
    """The installer stops at a syntax error.

    Source: pykickstart's handler.
    """
    for refusal in case.ks.refusals:
        if not refusal.deprecated:
            yield LintFault(refusal.location, refusal.message, _repair(refusal, case.ks.version))


@risk
def option_twice(case: Case) -> Faults:
    """If an option is given twice on one line, the last one applies, except for options that add to a list.

    Source: Python's argparse, which pykickstart uses: the action "store".
    """
    for command in case.ks.commands:
        values: dict[str, set[str]] = {}
        for argument, after in zip_longest(command.arguments, command.arguments[1:], fillvalue=""):
            name, equals, value = argument.partition("=")
            if argument.startswith("--") and name not in LISTS:
                values.setdefault(name, set()).add(
                    value if equals else "" if after.startswith("--") else after
                )
        for name in [name for name, given in values.items() if len(given) > 1]:
            yield LintFault(
                command.location,
                f"{name} is given {len(values[name])} different values",
                "write one of the values",
            )


@risk
def deprecated(case: Case) -> Faults:
    """A deprecated command or option has no effect already, or will have none in the next release.

    Source: pykickstart's warnings.
    """
    for refusal in case.ks.refusals:
        if refusal.deprecated:
            yield LintFault(refusal.location, refusal.message, _repair(refusal, case.ks.version))


@rule
def missing_include(case: Case) -> Faults:
    """The installer stops if an included file neither exists nor is written by %pre.

    Source: Anaconda.
    """
    for location, target in case.ks.missing_includes:
        yield LintFault(
            location,
            f"{target} does not exist, and no %pre script writes it",
            "create the file, or write it in %pre",
        )


@risk
def unknown_addon(case: Case) -> Faults:
    """Anaconda ignores unknown add-ons.

    Source: Anaconda, `kickstart/addon.py`.
    """
    for section in case.ks.sections_named("%addon"):
        name = section.arguments[0] if section.arguments else ""
        if name not in case.installer.addons:
            known = ", ".join(case.installer.addons)
            yield LintFault(section.location, f"{case.ks.version} has no add-on {name!r}", f"it has {known}")


def _repair(refusal: ParseRefusal, version: str) -> str:
    for option, repair in OPTIONS.items():
        if option in refusal.message:
            return repair
    if refusal.word == "%end":
        return "leave it out, or begin the section: %post, %packages, …"
    if "%end" in refusal.message:
        return "end it with a line that contains only %end"
    if refusal.word in REPLACED:
        return REPLACED[refusal.word]
    if refusal.word.startswith("%"):
        return "the sections are %pre, %pre-install, %packages, %post, %addon, %onerror, %traceback, %certificate"
    return f"write `{refusal.word}` as described in pykickstart's documentation of {version}"
