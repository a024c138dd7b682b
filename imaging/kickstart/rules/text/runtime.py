"""Rules about scripts without syntax errors that fail, or act on the wrong system, when they run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from imaging.kickstart.document import SCRIPTS, Section, SourceLocation
from imaging.kickstart.rule import Case, Faults, LintFault, risk
from imaging.kickstart.rules.text.scripts import SHELLS, language

_HERE: Final = re.compile(r"<<(-?)\s*(['\"\\]?)(\w+)['\"]?")
_START: Final = r"(?:^|[;&|(]\s*|\b(?:then|do|else|sudo)\s+)"
_BRACKET: Final = re.compile(
    r"(?:^|[;&|]\s*|\b(?:if|while|until|elif)\s+!?\s*)\[ [^\]]*[^\s\]\\]\](?=\s*(?:;|&&|\|\||$))"
)
_GLUED: Final = re.compile(r"(?:^|[;&|]\s*)\s*(?:if|while|until|elif)\s+(?:!\s+)?\[[^\s\[]")
_UNCLOSED: Final = re.compile(
    r"^\s*(?:(?:if|while|until|elif)\s+)?(?:!\s+)?\[ [^\]]*(;\s*(?:then|do)\b|&&|\|\|)"
)
_CONTINUED: Final = re.compile(r"(?<![\\=])\\[ \t]+$")
_QUOTED: Final = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'")
_ASSIGNED: Final = re.compile(
    r"^\s*[A-Za-z_]\w*\s+=\s+\S|^\s*[A-Za-z_]\w*\s+=\S+\s*$|^\s*\$[A-Za-z_]\w*=(?!=)"
)
NEEDS_SYSTEM: Final = re.compile(
    _START
    + r"(firewall-cmd\b(?=.*--(?:permanent|reload|add|remove|set|new|change))"
    + r"|nmcli\b(?=.*\b(?:add|mod\w*|up|down|del\w*|set)\b)"
    + r"|(?:hostname|timedate|locale)ctl\b(?=\s+(?:\S+\s+)*(?:set-\w+|hostname\s+\S))"
    + r"|systemctl\s+(?:--?[\w=-]+\s+)*(?:re)?(?:start|load)\b|systemctl\s+(?:--?[\w=-]+\s+)*(?:stop|isolate|kill)\b"
    + r"|service\s+\S+\s+(?:re)?start\b|reboot\b|poweroff\b|halt\b|shutdown\b|telinit\b|init\s+[0-6]\b)"
)
"""Programs that act on the running system, which during the installation is the installer."""
INSTEAD: Final = {
    "firewall-cmd": "write `firewall-offline-cmd`, or the command `firewall`",
    "nmcli": "write the command `network`, or a file in /etc/NetworkManager/system-connections",
    "hostnamectl": "write `network --hostname=`",
    "timedatectl": "write the commands `timezone` and `timesource`",
    "localectl": "write the commands `lang` and `keyboard`",
    "systemctl": "write `systemctl enable`, which acts at the first start",
    "service": "write `systemctl enable`, which acts at the first start",
}
_TYPOGRAPHIC: Final = re.compile("[\u00a0\u200b\u201c\u201d\u2018\u2019]|(?<=\\s)[\u2013\u2014](?=\\w)")
TARGET: Final = re.compile(r"/mnt/sys(?:image|root)\b")
_TO_INSTALLER: Final = re.compile(r">>?\s*/(etc|usr|var|home|boot|opt|srv)/")


@risk
def acts_on_installer(case: Case) -> Faults:
    """In %post, programs that act on the running system change the installer, or have no effect.

    Source: RHEL's kickstart reference, `%post`: a chroot; systemctl(1) ignores requests in a chroot.
    """
    for section in case.ks.sections_named("%post"):
        if section.script is None or not section.script.inChroot:
            continue
        for location, text in shell_lines(section):
            if match := NEEDS_SYSTEM.search(text):
                program = match[1].split()[0]
                right = INSTEAD.get(
                    program, "write the command `reboot` or `poweroff` outside of the scripts"
                )
                yield LintFault(location, f"`{match[1].strip()}` in %post acts on the installer", right)


@risk
def target_path(case: Case) -> Faults:
    """The installed system is / in %post, /mnt/sysroot in %post --nochroot, and does not exist in %pre.

    Source: RHEL's kickstart reference, `%post --nochroot`.
    """
    for section in case.ks.sections_named("%pre"):
        if section.script and TARGET.match(section.script.logfile or ""):
            yield LintFault(
                section.location,
                f"--log={section.script.logfile}: the installed system does not exist in %pre",
                "write --log=/tmp/pre.log, and copy it in %post --nochroot",
            )
    for section in case.ks.sections_named("%pre", "%post"):
        inside = section.name == "%post" and section.script is not None and section.script.inChroot
        for location, text in shell_lines(section):
            if TARGET.search(text) and (inside or section.name == "%pre"):
                right = "leave the prefix out" if inside else "do it in %post --nochroot"
                yield LintFault(
                    location, f"{TARGET.findall(text)[0]} does not exist in this {section.name}", right
                )
            elif section.name == "%post" and not inside and (match := _TO_INSTALLER.search(text)):
                yield LintFault(
                    location,
                    f"/{match[1]} in %post --nochroot is the installer's",
                    f"write /mnt/sysroot/{match[1]}",
                )


@risk
def shell_blanks(case: Case) -> Faults:
    """Missing or additional blanks at `[`, `]`, `=` or a final backslash change a script without a syntax error.

    Source: test(1); bash(1), PARAMETERS and QUOTING.
    """
    for section in case.ks.sections_named(*SCRIPTS):
        for location, text in shell_lines(section):
            bare = _QUOTED.sub('""', text)
            if _BRACKET.search(text):
                yield LintFault(
                    location, "`]` without a blank before it: the condition is always false", "write ` ]`"
                )
            elif _GLUED.search(bare):
                yield LintFault(location, "`[` without a blank after it is another command", "write `[ `")
            elif _UNCLOSED.search(bare):
                yield LintFault(
                    location, "`[` without `]`: the condition is always false", "write ` ]` at its end"
                )
            elif _CONTINUED.search(text):
                yield LintFault(
                    location,
                    "a blank after the backslash: the next line is another command",
                    "remove the blank",
                )
            elif _ASSIGNED.search(text):
                yield LintFault(
                    location,
                    "an assignment with blanks or a dollar sign is run as a command",
                    "write name=value",
                )


@risk
def typographic_script(case: Case) -> Faults:
    """The shell does not treat typographic quotes, dashes and spaces as quotes, hyphens and blanks.

    Source: bash(1), QUOTING.
    """
    for section in case.ks.sections_named(*SCRIPTS):
        for location, text in shell_lines(section):
            if match := _TYPOGRAPHIC.search(text):
                yield LintFault(
                    location,
                    f"the line has the character U+{ord(match[0]):04X}",
                    "write plain quotes, hyphens and spaces",
                )


def shell_lines(section: Section) -> Iterator[tuple[SourceLocation, str]]:
    """Yield the lines of a shell script that begin a command: no comments, here-documents or quoted lines."""
    if language(section) not in SHELLS:
        return
    ending, quote = "", ""
    for location, text in section.lines():
        if ending:
            ending = "" if text.strip() == ending else ending
            continue
        inside, quote = quote, _open_quote(text, quote)
        if not inside and not quote and (match := _HERE.search(text)) and "<<<" not in text:
            ending = match[3]
        if not inside and text.strip() and not text.lstrip().startswith("#"):
            yield location, text


def _open_quote(text: str, quote: str) -> str:
    """Return the quotation mark that is open after a line, or ""; `quote` is the one that is open before it."""
    escaped = False
    for index, sign in enumerate(text):
        if escaped:
            escaped = False
        elif sign == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if sign == quote else quote
        elif sign == "#" and (index == 0 or text[index - 1].isspace()):
            break
        elif sign in "'\"":
            quote = sign
    return quote
