"""Conditions that several rules share: a directive has a certain value, a module is or is not loaded."""

from __future__ import annotations

from collections.abc import Iterable

from imaging.check.apache.httpd import ApacheServer, Directive
from imaging.check.apache.rule import ApacheFinding, Findings


def location_of(server: ApacheServer, directive: Directive | None) -> str:
    """Return the location of a directive, or of the configuration that lacks it."""
    return directive.location if directive else str(server.conf)


def has_value(server: ApacheServer, name: str, allowed: Iterable[str], recommended: str) -> Findings:
    """Check that the directive is set outside of sections, and everywhere to an allowed value (lower case)."""
    values = set(allowed)
    if server.general(name.lower()) is None:
        yield ApacheFinding(
            str(server.conf), f"has no {name} outside of sections", f"write {name} {recommended}"
        )
    for one in server.named(name.lower()):
        if " ".join(one.arguments).lower() not in values:
            yield ApacheFinding(
                one.location, f"{name} {' '.join(one.arguments)}", f"write {name} {recommended}"
            )


def has_number(server: ApacheServer, name: str, low: int, high: int) -> Findings:
    """Check that the directive is set outside of sections, and everywhere to a number from `low` to `high`."""
    if server.general(name.lower()) is None:
        yield ApacheFinding(str(server.conf), f"has no {name}", f"write {name} {high if low == 0 else low}")
    for one in server.named(name.lower()):
        number = one.arguments[0] if one.arguments else ""
        if not number.isdecimal() or not low <= int(number) <= high:
            yield ApacheFinding(one.location, f"{name} {number}", f"write a number from {low} to {high}")


def has_none_of(server: ApacheServer, *names: str) -> Findings:
    """Check that none of these directives is used."""
    for one in server.named(*(name.lower() for name in names)):
        yield ApacheFinding(
            one.location,
            f"{one.name} {' '.join(one.arguments)}",
            "the local page does not need it; remove it",
        )


def is_loaded(server: ApacheServer, *modules: str) -> Findings:
    """Check that all of these modules are loaded."""
    for name in modules:
        if name not in server.modules:
            yield ApacheFinding(str(server.conf), f"{name}_module is not loaded", "add its LoadModule")


def is_not_loaded(server: ApacheServer, modules: Iterable[str]) -> Findings:
    """Check that none of these modules is loaded."""
    for name in sorted(server.modules & set(modules)):
        yield ApacheFinding(str(server.conf), f"{name}_module is loaded", "remove its LoadModule")


def has_no_options(server: ApacheServer, *unwanted: str) -> Findings:
    """Check that no `Options` directive enables one of these. httpd's default is only FollowSymLinks."""
    for one in server.named("options"):
        on = {option.lstrip("+").lower() for option in one.arguments if not option.startswith("-")}
        for name in sorted(on & {*unwanted, "all"}):
            yield ApacheFinding(one.location, f"Options {name}", "write Options None")
