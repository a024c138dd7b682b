"""The page's content as HTML that works without scripts: the overview of a port, and the page of one offer.

All texts are here, marked with `_()` for the catalogues in `languages/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from agents.box.page.languages import MessageCatalogue
from agents.box.page.markup import Markup, element, join
from agents.box.page.ports import port_row
from agents.box.page.status import PageStatus
from agents.box.sessions.security_keys import SecurityKeys, encoded
from agents.box.sessions.session import BoxSession
from wire.session.grant import PresenceWay, SessionMode
from wire.session.presence import DIGITS, TRIES, challenge_of
from wire.session.table import Cause, SessionState

HISTORY_SHOWN_MAX: Final = 10
REFRESH_SECONDS: Final = 10
"""Interval at which the overview is reloaded without JavaScript: half of the time after which a session without an
open page becomes view-only."""


@dataclass(frozen=True)
class View:
    """One port, as one person's browser shows it."""

    texts: MessageCatalogue
    box: str
    port: int
    sessions: Sequence[BoxSession]
    """The sessions of the port, oldest first."""
    ways: tuple[PresenceWay, ...]
    is_shared: bool
    """Whether staff may see or operate the screen of an instrument at the port."""
    status: PageStatus | None
    security_keys: SecurityKeys | None
    token: Callable[[str, str], str]
    """Returns the token of a form for a session and an action."""

    # -- documents --------------------------------------------------------------------------------------

    def overview(self, note: str) -> str:
        """Return the page of the port; `note` is a key of `notes()` or empty."""
        return self._document(self.main(note), refresh=True)

    def offer_page(self, session: BoxSession, note: str) -> str:
        """Return the page on which one offer is answered. It never reloads itself, which would erase the input."""
        _ = self.texts.gettext
        if session.state is not SessionState.OFFERED:
            content = element("p", _("This request has been answered or is over."))
        elif self.is_shared:
            content = element("section", self._facts(session), self._sharing_hint(), class_="card")
        else:
            answers = join(self._ways(session), self._refusal(session))
            content = element("section", self._facts(session), answers, class_="card offer")
        back = element("p", element("a", _("Back to the overview"), href="/"))
        title = element("h1", _("Request for a remote session"))
        main = element("main", title, self._note(note), content, back, data_offer=session.id.hex())
        return self._document(main, refresh=False)

    def enrolment(self) -> str:
        """Return the page that generates the entry of a security key for the box's configuration."""
        _ = self.texts.gettext
        name = self.security_keys.name if self.security_keys else ""
        explained = _(
            "Press the button and touch the key. Then give the text below to the administrator of the box."
        )
        form = element(
            "form",
            element("button", _("Enrol the key"), class_="permit"),
            element("p", _("The security key was not used."), class_="bad", hidden=True),
            class_="form-enrolment",
            data_name=name,
            data_box=self.box,
        )
        result = element("pre", id="entry", role="status")
        content = join(element("p", explained), self._name_hint(name), form, result)
        title = element("h1", _("Enrol a security key"))
        return self._document(element("main", title, content, data_offer="none"), refresh=False)

    def error(self, text: str) -> str:
        """Return a page with an error."""
        _ = self.texts.gettext
        back = element("p", element("a", _("Back to the overview"), href="/"))
        return self._document(
            element("main", element("h1", _("Not possible")), element("p", text), back), refresh=False
        )

    def notes(self) -> dict[str, str]:
        """Return the messages about the last action, by their names in addresses."""
        _ = self.texts.gettext
        return {
            "permitted": _("You have permitted the session. The connection is being prepared."),
            "more": _("This proof was accepted. Another one is needed before the session is permitted."),
            "wrong": _("This proof was not accepted."),
            "refused": _("You have refused the session."),
            "ended": _("The session has ended. No more data is transmitted."),
            "over": _("This request has been answered or is over."),
            "shared": _("Not accepted: the desktop of this port is shared."),
        }

    # -- parts of documents -----------------------------------------------------------------------------

    def main(self, note: str = "") -> Markup:
        """Return the part of the overview that changes."""
        _ = self.texts.gettext
        live = [each for each in self.sessions if each.state in _LIVE]
        offers = [each for each in self.sessions if each.state is SessionState.OFFERED]
        over = [each for each in reversed(self.sessions) if each.is_over]
        nothing = _("There is no remote session and no request. Each session needs your permission here.")
        return element(
            "main",
            element("h1", _("Remote sessions at port {port}").format(port=self.port)),
            self._note(note),
            *map(self._live, live),
            *map(self._offer, offers),
            None if live or offers else element("p", nothing, class_="quiet card"),
            self._box_state(),
            self._history(over),
        )

    def _document(self, main: Markup, *, refresh: bool) -> str:
        _ = self.texts.gettext
        reload = element("meta", http_equiv="refresh", content=REFRESH_SECONDS)
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", _("Remote sessions at port {port}").format(port=self.port)),
            element("link", rel="stylesheet", href="/page.css"),
            element("noscript", reload) if refresh else None,
            element("script", Markup(""), src="/page.js", defer=True),
        )
        header = element("header", element("strong", self.box), " ", _("port {port}").format(port=self.port))
        body = element("body", header, main)
        return "<!DOCTYPE html>\n" + element("html", head, body, lang=self.texts.language)

    def _note(self, note: str) -> Markup | None:
        text = self.notes().get(note)
        kind = "note bad" if note in ("wrong", "shared") else "note"
        return element("p", text, class_=kind, role="status") if text else None

    def _live(self, session: BoxSession) -> Markup:
        _ = self.texts.gettext
        titles = {
            SessionState.AUTHORIZED: _("A remote session is being prepared"),
            SessionState.OPENING: _("A remote session is being opened"),
            SessionState.OPEN: _("A remote session is running"),
            SessionState.ENDING: _("A remote session is being ended"),
        }
        view_only = _("At present staff can only watch, because this page was not open for a while.")
        again = _("To let them operate the instrument again, press the switch on the box, if it has one.")
        end = None
        if session.state is not SessionState.ENDING:
            end = self._form(session, "end", _("End the session"), "end")
        return element(
            "section",
            element("h2", titles[session.state]),
            self._facts(session),
            element("p", view_only, " ", again) if session.view_only else None,
            end,
            self._sharing_hint() if session.has_tunnel else None,
            class_="card live",
        )

    def _offer(self, session: BoxSession) -> Markup:
        _ = self.texts.gettext
        id = session.id.hex()
        answer = element(
            "a", _("Answer the request"), href=f"/offer/{id}", class_="button", id=f"answer-{id}"
        )
        return element(
            "section",
            element("h2", _("Request for a remote session")),
            self._facts(session),
            self._sharing_hint() if self.is_shared else element("p", answer),
            class_="card offer",
            id=f"offer-{id}",
        )

    def _sharing_hint(self) -> Markup:
        _ = self.texts.gettext
        return element(
            "p",
            _("While the desktop of this port is shared, a session can only be ended here."),
            " ",
            _("Staff who operate the desktop could permit one in your place."),
            class_="hint",
        )

    def _facts(self, session: BoxSession) -> Markup:
        _ = self.texts.gettext
        offer = session.offer
        may = {
            SessionMode.VIEW: _("see the screen"),
            SessionMode.CONTROL: _("see the screen and operate the instrument"),
        }
        rows = [
            (_("Who"), element("strong", offer.staff)),
            (_("Role"), offer.role),
            (_("From"), offer.issuer),
            (_("Instrument"), offer.instrument),
            (_("May"), may[offer.mode]),
        ]
        if SessionState.OPEN in session.reached_s:
            rows.append((_("Since"), self._time(session.reached_s[SessionState.OPEN])))
        minutes = _("{minutes} min").format(minutes=-(-session.left_s // 60))
        rows.append((_("Ends in at most"), minutes))
        terms = [join(element("dt", term), element("dd", value)) for term, value in rows]
        return element("dl", *terms)

    def _ways(self, session: BoxSession) -> Markup:
        _ = self.texts.gettext
        proved = {each.way for each in session.evidence}
        ways = [element("li", self._way(session, way, is_proved=way in proved)) for way in self.ways]
        needed = _("The session is permitted when you have done all of this:")
        return join(element("p", needed) if len(ways) > 1 else None, element("ol", *ways))

    def _way(self, session: BoxSession, way: PresenceWay, *, is_proved: bool) -> Markup:
        _ = self.texts.gettext
        if is_proved:
            texts = {
                PresenceWay.CODE: _("The code is correct."),
                PresenceWay.SWITCH: _("The switch was pressed."),
                PresenceWay.SECURITY_KEY: _("The security key was used."),
            }
            return element("p", texts[way], class_="done")
        if way is PresenceWay.SWITCH:
            return element("p", _("Press the switch on the box while this page is open."))
        if way is PresenceWay.SECURITY_KEY:
            return self._security_key(session)
        left = TRIES - session.wrong_codes
        field_label = element(
            "label",
            _("The {digits} digits that the staff member tells you by telephone").format(digits=DIGITS),
            for_="code",
        )
        field = element(
            "input",
            id="code",
            name="code",
            inputmode="numeric",
            autocomplete="off",
            maxlength=DIGITS + 2,
            size=DIGITS + 2,
            required=True,
        )
        tries = element("p", _("Tries left: {left}").format(left=left), class_="hint")
        content = join(element("p", field_label), element("p", field), tries)
        label = _("Permit the session") if len(self.ways) == 1 else _("Check the code")
        return self._form(session, "code", label, "permit", content)

    def _security_key(self, session: BoxSession) -> Markup:
        _ = self.texts.gettext
        keys = self.security_keys
        fields = [
            element("input", type="hidden", name=name) for name in ("id", "client_data", "authenticator_data")
        ]
        content = join(
            self._name_hint(keys.name if keys else ""),
            *fields,
            element("input", type="hidden", name="signature"),
            element("p", _("The security key was not used."), class_="bad", hidden=True),
        )
        data = {
            "data_name": keys.name if keys else "",
            "data_keys": " ".join(keys.ids if keys else ()),
            "data_challenge": encoded(challenge_of(session.signed.hash)),
        }
        return self._form(session, "security-key", _("Use your security key"), "permit", content, **data)

    def _name_hint(self, name: str) -> Markup:
        _ = self.texts.gettext
        text = _(
            "Security keys work only in a browser with JavaScript, and only if the page is opened by its name: {name}"
        )
        return element("p", text.format(name=name), class_="hint")

    def _refusal(self, session: BoxSession) -> Markup:
        _ = self.texts.gettext
        return self._form(session, "refuse", _("Refuse"), "refuse")

    def _form(
        self,
        session: BoxSession,
        action: str,
        label: str,
        kind: str,
        content: Markup | None = None,
        **attributes: str,
    ) -> Markup:
        id = session.id.hex()
        return element(
            "form",
            element("input", type="hidden", name="token", value=self.token(id, action)),
            content,
            element("button", label, class_=kind, id=f"{action}-{id}"),
            method="post",
            action=f"/session/{id}/{action}",
            class_=f"form-{action}",
            **attributes,
        )

    def _box_state(self) -> Markup:
        _ = self.texts.gettext
        title, status = element("h2", _("The box")), self.status
        if status is None:
            return element("section", title, element("p", _("The state of the box is not known yet.")))
        rows = [
            (
                _("Data center"),
                _("connected") if status.is_connected else _("not connected"),
                status.is_connected,
            ),
            (
                _("Reports"),
                _("stored") if status.accepts_reports else _("not stored"),
                status.accepts_reports,
            ),
            (_("Records that wait to be sent"), str(status.records_waiting), True),
            (
                _("Firewall"),
                _("in force") if status.is_firewall_enforced else _("not in force"),
                status.is_firewall_enforced,
            ),
        ]
        if status.is_fips_in_force is not None:
            state = (
                _("in force")
                if status.is_fips_in_force
                else _("not in force: the box receives and sends nothing. Call the administrator.")
            )
            rows.append((_("FIPS 140 cryptography"), state, status.is_fips_in_force))
        cells = [
            element(
                "tr",
                element("th", name, scope="row"),
                element("td", value, class_=None if is_normal else "bad"),
            )
            for name, value, is_normal in rows
        ]
        cells += [port_row(port, self.texts, self._time) for port in status.ports]
        enrol = element("p", element("a", _("Enrol a security key"), href="/security-key"))
        is_used = PresenceWay.SECURITY_KEY in self.ways
        return element("section", title, element("table", *cells), enrol if is_used else None)

    def _history(self, over: Sequence[BoxSession]) -> Markup:
        _ = self.texts.gettext
        title = element("h2", _("Earlier sessions and requests"))
        if not over:
            return element("section", title, element("p", _("None since the box was started.")))
        names = (_("Ended"), _("Who"), _("Instrument"), _("Duration"), _("Why it ended"))
        head = element("tr", *(element("th", name, scope="col") for name in names))
        rows = [
            element(
                "tr",
                *(
                    element("td", value, data_name=name)
                    for name, value in zip(names, self._past(each), strict=True)
                ),
            )
            for each in over[:HISTORY_SHOWN_MAX]
        ]
        table = element("table", element("thead", head), element("tbody", *rows), class_="history")
        return element("section", title, table)

    def _past(self, session: BoxSession) -> list[str]:
        _ = self.texts.gettext
        reached, duration = session.reached_s, _("not opened")
        ended = reached.get(SessionState.ENDING, 0)
        if SessionState.OPEN in reached:
            minutes, seconds = divmod(max(0, ended - reached[SessionState.OPEN]), 60)
            duration = _("{minutes} min {seconds} s").format(minutes=minutes, seconds=seconds)
        who = f"{session.offer.staff} ({session.offer.role})"
        why = session.shown_cause
        if why is Cause.RESTARTED and session.cause is not why:
            why = Cause.PEER_ENDED  # the data center was started again, not the box
        return [self._time(ended), who, session.offer.instrument, duration, self._cause(why) if why else ""]

    def _cause(self, cause: Cause) -> str:
        _ = self.texts.gettext
        return {
            Cause.REFUSED: _("refused here"),
            Cause.WRONG_CODES: _("too many wrong codes"),
            Cause.EXPIRED: _("the time ran out"),
            Cause.ENDED_BY_PERSON: _("ended here"),
            Cause.ENDED_BY_STAFF: _("ended by staff"),
            Cause.WITHDRAWN: _("the approval was withdrawn"),
            Cause.TRAINING_EXPIRED: _("the training of the staff member expired"),
            Cause.PERSON_ABSENT: _("this page was not open for too long"),
            Cause.LINE_LOST: _("the connection was lost"),
            Cause.VIEWER_LOST: _("staff closed the viewer"),
            Cause.RECORDING_FAILED: _("it could not be recorded"),
            Cause.AUDIT_FAILED: _("the audit log could not be written"),
            Cause.FENCE_LOST: _("the firewall was not in force"),
            Cause.RESTARTED: _("the box was started again"),
            Cause.PEER_ENDED: _("ended by the data center"),
        }[cause]

    def _time(self, seconds: int) -> Markup:
        moment = datetime.fromtimestamp(seconds, UTC)
        return element("time", f"{moment:%Y-%m-%d %H:%M} UTC", datetime=f"{moment:%Y-%m-%dT%H:%M:%SZ}")


_LIVE: Final = (SessionState.AUTHORIZED, SessionState.OPENING, SessionState.OPEN, SessionState.ENDING)
