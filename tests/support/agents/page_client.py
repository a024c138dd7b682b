"""A person's browser without JavaScript: follows redirects, reads forms, and sends them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode

from agents.box.page.application import LocalPage
from agents.box.page.status import PagePort, PageStandard, PageStatus
from agents.box.sessions.security_keys import SecurityKeys
from tests.support.agents.sessions.box import PORT, SessionBox
from tests.support.wire.grants import OFFER
from wire.http.connection import Peer, Request, Response

OTHER_PORT = PORT + 1
HOST = "rap.example:8443"
STANDARD = PageStandard(
    "astm-serial",
    is_connected=True,
    message_at_s=1_930_390_200,
    accepted=12,
    left_out={"patient-results-dropped": 7, "frame-refused": 2},
)
SILENT = PageStandard("hl7", is_connected=False, message_at_s=None, accepted=0, left_out={})
STATUS = PageStatus(
    is_connected=True,
    records_waiting=3,
    accepts_reports=True,
    is_firewall_enforced=True,
    ports=(
        PagePort(PORT, (OFFER.instrument, "CH-4712"), is_served=True),
        PagePort(OTHER_PORT, (), is_served=False),
        PagePort(OTHER_PORT + 1, ("CELL-7",), is_served=True, standard=STANDARD),
        PagePort(OTHER_PORT + 2, ("GAS-8",), is_served=True, standard=SILENT),
    ),
)


@dataclass
class Form:
    """A form of a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "form":
            self.forms.append(Form(values["action"] or ""))
        elif tag == "input":
            self.forms[-1].fields[values["name"] or ""] = values.get("value") or ""


def forms_of(text: str) -> dict[str, Form]:
    """Return the forms of a page, by the last part of their addresses."""
    parser = _Forms()
    parser.feed(text)
    return {form.action.rpartition("/")[2]: form for form in parser.forms}


async def _status() -> PageStatus | None:
    return STATUS


class PageClient:
    """A browser at one port, without httpd in between."""

    def __init__(self, page: LocalPage, port: int = PORT, language: str = "en") -> None:
        self._page, self._peer = page, Peer("", "", lambda: None)
        self.headers = {"x-rap-port": str(port), "host": HOST, "accept-language": language}

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        """Send one request."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._page.handle(Request(method, target, self.headers | extra, body, self._peer))

    async def get(self, target: str = "/") -> str:
        """Return the text of a page."""
        answer = await self.ask("GET", target)
        assert answer.status == 200, answer
        return answer.body.decode()

    async def send(self, form: Form, **values: str) -> str:
        """Send a form; return the page that is then shown."""
        answer = await self.ask("POST", form.action, urlencode(form.fields | values).encode())
        assert answer.status == 303, answer
        return await self.get(answer.headers["location"])

    async def offer_form(self, action: str, id: bytes = OFFER.id) -> Form:
        """Return a form of the page of an offer."""
        return forms_of(await self.get(f"/offer/{id.hex()}"))[action]


def page_of(box: SessionBox, keys: SecurityKeys | None = None) -> LocalPage:
    """Return the page of a box, which is notified of the box's changes."""
    page = LocalPage(OFFER.box, frozenset({PORT, OTHER_PORT}), lambda: box.sessions, _status, keys)
    box.on_change = page.changed
    return page
