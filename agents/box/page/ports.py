"""The instrument ports on the page: connected instruments, and messages of those with their own standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agents.box.page.languages import MessageCatalogue
from agents.box.page.markup import Markup, element, join
from agents.box.page.status import PagePort, PageStandard

_STANDARDS: Final = {
    "hl7": "HL7",
    "astm": "ASTM",
    "astm-serial": "ASTM (RS-232)",
    "poct1a": "POCT1-A",
    "au": "Beckman AU",
}
"""Names that need no translation; any other standard is shown as it is in the profile."""


def port_row(port: PagePort, texts: MessageCatalogue, time: Callable[[int], Markup]) -> Markup:
    """Return the table row of a port; `time` formats a time in seconds since 1970."""
    _ = texts.gettext
    instruments = ", ".join(port.instruments) or _("no instrument")
    name = _("port {port}").format(port=port.number)
    state = _("ready") if port.is_served else _("not ready")
    return element(
        "tr",
        element("th", f"{name}: {instruments}", scope="row"),
        element(
            "td",
            element("span", state, class_=None if port.is_served else "bad"),
            _facts(port.standard, texts, time) if port.standard is not None else None,
        ),
    )


def _facts(standard: PageStandard, texts: MessageCatalogue, time: Callable[[int], Markup]) -> Markup:
    _ = texts.gettext
    name = _STANDARDS.get(standard.name, standard.name)
    connected = _("connected") if standard.is_connected else _("not connected")
    at_s = standard.message_at_s
    last = _("no message yet") if at_s is None else join(_("last message"), " ", time(at_s))
    lines: list[str] = [f"{name}: {connected}", last]
    lines.append(_("reports stored: {number}").format(number=standard.accepted))
    reasons = _reasons(texts)
    lines += [f"{reasons.get(reason, reason)}: {count}" for reason, count in standard.left_out.items()]
    return element("ul", *(element("li", line) for line in lines), class_="facts")


def _reasons(texts: MessageCatalogue) -> dict[str, str]:
    """Return texts for the omitted message parts, by `Reason`."""
    _ = texts.gettext
    return {
        "patient-results-dropped": _("not sent, because they belong or may belong to patients"),
        "query-ignored": _("queries for orders, not answered"),
        "test-unknown": _("results of tests that are not set up"),
        "control-unknown": _("results of controls that are not set up"),
        "alarm-unknown": _("alarms that are not set up"),
        "value-unreadable": _("unreadable values"),
        "result-not-final": _("control results that are not final"),
        "frame-refused": _("damaged frames, repeated by the instrument"),
        "frame-repeated": _("frames sent twice"),
        "message-unfinished": _("messages without an end"),
        "message-refused": _("messages that do not follow the standard"),
        "message-ignored": _("messages that the box does not use"),
        "message-repeated": _("messages sent twice"),
        "not-stored": _("messages that could not be stored"),
        "passed-unread": _("sections of traffic that were relayed unread"),
        "litter": _("bytes between messages"),
    }
