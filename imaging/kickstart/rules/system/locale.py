"""Rules about time zone, language and keyboard."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Final

from imaging.kickstart.data import known_names, time_zones
from imaging.kickstart.rule import Case, Faults, LintFault, risk, rule

LOCALE: Final = re.compile(r"(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.([A-Za-z0-9-]+))?(@[a-z]+)?")
ENCODINGS: Final = ("utf8", "iso88591", "iso885915", "koi8r", "koi8u", "euckr", "eucjp", "gb18030", "big5")
KEYMAP: Final = re.compile(r"([A-Za-z]{2,}[A-Za-z0-9_.-]*)(\s?\([A-Za-z0-9_.-]+\))?")


@rule
def unknown_time_zone(case: Case) -> Faults:
    """If the time zone is unknown, Anaconda uses America/New_York.

    Source: the IANA time zone database.
    """
    for command in case.ks.named("timezone"):
        name = command.data.timezone
        if name and name not in time_zones():
            yield LintFault(
                command.location, f"there is no time zone {name!r}", "write it like Europe/Berlin or Etc/UTC"
            )


@rule
def locale_unknown(case: Case) -> Faults:
    """If glibc does not have the locale, the system uses the C locale.

    Source: glibc, `localedata/SUPPORTED`; locale(7).
    """
    known = known_names().locales
    for command in case.ks.named("lang"):
        for name in [command.data.lang, *command.data.addsupport]:
            match = LOCALE.fullmatch(name or "")
            base = match[1] if match else ""
            encoding = (match[4] or "").replace("-", "").lower() if match else ""
            languages = {each.partition("_")[0] for each in known}
            exists = base in known or ("_" not in base and base in languages)
            if name and not (exists and encoding in ("", *ENCODINGS)):
                close = get_close_matches(base or name, known, 1, 0.5)
                yield LintFault(
                    command.location,
                    f"{name!r} is not a locale of glibc",
                    f"write it like {(close or ['en_US'])[0]}.UTF-8",
                )


@risk
def package_languages(case: Case) -> Faults:
    """Only translations of the languages in --inst-langs are installed, so that each must exist in glibc.

    Source: RHEL's kickstart reference, `%packages --inst-langs`; rpm, `_install_langs`.
    """
    known = known_names().locales
    languages = {each.partition("_")[0] for each in known}
    given = str(case.ks.packages.instLangs or "") if case.ks.packages is not None else ""
    for name in [name for name in re.split("[:, ]", given) if name and name not in ("all", "none")]:
        base = name.partition(".")[0].partition("@")[0]
        if base not in known and base not in languages:
            location = next(case.ks.sections_named("%packages")).location
            yield LintFault(
                location, f"--inst-langs={name} is not a language of glibc", "write it like en_US or de"
            )


@rule
def keyboard_unknown(case: Case) -> Faults:
    """A keyboard layout, its variant and the key to switch layouts must exist in X or on the console.

    Source: xkeyboard-config, `rules/base.lst`; kbd's keymaps; localectl(1).
    """
    names = known_names()
    for command in case.ks.named("keyboard"):
        data = command.data
        for name in [each for each in (data.keyboard, data.vc_keymap, *data.x_layouts) if each]:
            match = KEYMAP.fullmatch(name)
            base = match[1] if match else ""
            layout, _, variant = base.partition("-")
            console = base in names.keymaps or layout in names.layouts
            if not (base in names.layouts or (console and name not in data.x_layouts)):
                yield LintFault(
                    command.location,
                    f"{name!r} is not a keyboard layout",
                    "write it like us, de or 'cz (qwerty)'",
                )
                continue
            given = match[2].strip(" ()") if match and match[2] else ""
            known = names.layout_variants.get(layout, [])
            close = get_close_matches(given or variant, known, 1, 0.8)  # the console also has other keymaps
            if (given and given not in known) or (variant and variant not in known and close):
                yield LintFault(
                    command.location,
                    f"the keyboard layout {layout} has no variant {given or variant!r}",
                    f"perhaps {close[0] if close else layout}",
                    risky=True,
                )
        for name in data.switch_options:
            if name.startswith("grp:") and name not in names.layout_switches:
                close = get_close_matches(name, names.layout_switches, 1)
                yield LintFault(
                    command.location,
                    f"--switch={name} is not an option of X",
                    f"perhaps {close[0]}" if close else "leave it out",
                )
