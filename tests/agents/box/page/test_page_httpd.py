"""The local page through the box's httpd: access, limits, and curl as a browser without scripts."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest

from agents.box.page.server import BODY_BYTES_MAX
from tests.support.agents.page_client import OTHER_PORT, Form, forms_of
from tests.support.agents.served_page import ADDRESSES, ServedPage
from tests.support.agents.sessions.box import PORT
from tests.support.eventually import WAIT_SECONDS_MAX
from tests.support.httpd import CAN_RUN, REASON, client_tls
from tests.support.wire.grants import OFFER
from wire.session.table import Cause, SessionState

pytestmark = [
    pytest.mark.skipif(not CAN_RUN, reason=REASON),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # old versions of TLS
]
PSS_KIB_MAX = 15 * 1024


def ask(
    served: ServedPage,
    method: str,
    target: str,
    body: bytes | Iterator[bytes] = b"",
    *,
    port: int = PORT,
    source: str = "",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request to the page of an instrument port; return status, headers by lower-case name, and body."""
    host = str(ADDRESSES[port].ip)
    connection = http.client.HTTPSConnection(
        host,
        served.http_ports[port],
        context=client_tls(),
        timeout=WAIT_SECONDS_MAX,
        source_address=(source or host, 0),
    )
    try:
        connection.request(method, target, body, headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def get(served: ServedPage, target: str, port: int = PORT) -> str:
    status, _, body = ask(served, "GET", target, port=port)
    assert status == 200
    return body.decode()


def send(served: ServedPage, form: Form, **values: str) -> str:
    """Send a form; return the target of the redirection."""
    body = urlencode(form.fields | values).encode()
    status, headers, _ = ask(served, "POST", form.action, body)
    assert status == 303
    return headers["location"]


def offer_page(served: ServedPage) -> str:
    return get(served, f"/offer/{served.box.session.id.hex()}")


def test_a_session_is_permitted_and_ended_through_httpd(served: ServedPage) -> None:
    code = served.offer(b"a" * 16)
    assert send(served, forms_of(offer_page(served))["code"], code=code) == "/?note=permitted"
    served.reach(SessionState.OPEN)
    page = get(served, "/")
    assert "A remote session is running" in page
    assert send(served, forms_of(page)["end"]) == "/?note=ended"
    served.reach(SessionState.ENDED)
    assert served.box.session.cause is Cause.ENDED_BY_PERSON


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_permits_and_ends_a_session(served: ServedPage) -> None:
    def curl(path: str, *arguments: str) -> str:
        options = [
            "--silent",
            "--show-error",
            "--insecure",
            "--location",
            "--fail-with-body",
            "--max-time",
            "60",
        ]
        source = ["--interface", str(ADDRESSES[PORT].ip)]
        result = subprocess.run(
            ["curl", *options, *source, *arguments, served.address() + path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    code = served.offer(b"b" * 16)
    form = forms_of(curl(f"/offer/{served.box.session.id.hex()}"))["code"]
    text = curl(form.action, "--data", urlencode(form.fields | {"code": code}))
    assert "You have permitted the session" in text
    served.reach(SessionState.OPEN)
    form = forms_of(curl("/"))["end"]
    assert "The session has ended" in curl(form.action, "--data", urlencode(form.fields))
    served.reach(SessionState.ENDED)


def test_a_port_that_a_client_forges_is_overwritten(served: ServedPage) -> None:
    served.offer(b"c" * 16)
    for forged in ({"X_Rap_Port": str(PORT)}, {"x_rap_port": f"{PORT}, {PORT}"}):
        status, _, body = ask(served, "GET", "/", port=OTHER_PORT, headers=forged)
        assert status == 200
        assert f"at port {OTHER_PORT}" in body.decode()
        assert OFFER.staff not in body.decode()


def test_another_subnet_and_another_name_are_refused(served: ServedPage) -> None:
    """A machine at one port may reach the box's address of another port, and DNS rebinding may use any host name."""
    assert ask(served, "GET", "/", source=str(ADDRESSES[OTHER_PORT].ip))[0] == 403
    for host in ("rap.example", "evil.example:8443", str(ADDRESSES[OTHER_PORT].ip)):
        assert ask(served, "GET", "/", headers={"Host": host})[0] == 403


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(served: ServedPage, method: str) -> None:
    assert ask(served, method, "/")[0] in (403, 405)


def test_bodies_and_headers_have_limits(served: ServedPage) -> None:
    """httpd's own limit does not apply to the body of a request that it forwards."""

    def chunks() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 1024 + 4):
            yield b"a" * 1024

    assert ask(served, "POST", "/session/x/code", b"a" * (BODY_BYTES_MAX + 1))[0] == 413
    assert ask(served, "POST", "/session/x/code", chunks())[0] == 413
    assert ask(served, "POST", "/session/x/code", b"a" * BODY_BYTES_MAX)[0] == 403
    assert ask(served, "GET", "/", headers={"X": "a" * 5000})[0] == 400
    assert ask(served, "GET", "/" + "a" * 3000)[0] == 414


def test_each_response_has_the_headers_that_protect_the_page(served: ServedPage) -> None:
    for target in ("/", "/page.js", "/nothing", "/events"):
        _, headers, _ = ask(served, "GET", target)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and policy.count("script-src") == 1
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["server"] == "Apache"
        assert "set-cookie" not in headers
        assert headers["cache-control"] == ("max-age=3600" if target == "/page.js" else "no-store")


def test_a_client_that_sends_slowly_is_disconnected_and_others_are_served(served: ServedPage) -> None:
    host = str(ADDRESSES[PORT].ip)
    slow: list[ssl.SSLSocket] = []
    for _ in range(8):
        plain = socket.create_connection((host, served.http_ports[PORT]), source_address=(host, 0))
        secure = client_tls().wrap_socket(plain)
        secure.sendall(b"POST /session/x/code HTTP/1.1\r\nHost: ")
        slow.append(secure)
    assert "Remote sessions" in get(served, "/")
    for secure in slow:
        secure.settimeout(WAIT_SECONDS_MAX)
        assert b" 200 " not in secure.recv(100)  # end of file, or status 408, after RequestReadTimeout
        secure.close()


def test_an_event_passes_httpd_as_soon_as_it_happens(served: ServedPage) -> None:
    """httpd neither buffers nor delays the event: the response arrives before the box's hold time ends."""
    _, headers, body = ask(served, "GET", "/events")
    assert headers["content-type"] == "text/event-stream"
    identifier = next(line for line in body.decode().splitlines() if line.startswith("id: "))[4:]
    host = str(ADDRESSES[PORT].ip)
    connection = http.client.HTTPSConnection(
        host,
        served.http_ports[PORT],
        context=client_tls(),
        timeout=WAIT_SECONDS_MAX,
        source_address=(host, 0),
    )
    connection.request("GET", "/events", headers={"Last-Event-ID": identifier})
    served.offer(b"d" * 16)
    assert OFFER.staff in connection.getresponse().read().decode()
    connection.close()


def test_httpd_takes_little_memory(served: ServedPage) -> None:
    for _ in range(30):
        get(served, "/")
    children = Path(f"/proc/{served.httpd}/task/{served.httpd}/children").read_text().split()
    workers = [
        pid for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() in ("apache2", "httpd")
    ]
    assert len(workers) == 1
    assert sum(_pss_kib(pid) for pid in (str(served.httpd), *children)) <= PSS_KIB_MAX


def _pss_kib(pid: str) -> int:
    """Return the proportional set size of a process, in KiB (proc_pid_smaps(5))."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
