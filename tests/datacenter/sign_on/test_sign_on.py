"""Staff sign on at a provider; wrong responses of the provider, the browser or another site give no access."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from oidc_provider_mock import User, run_server_in_thread
from sqlalchemy import delete

from datacenter.access.directory import StaffDirectory
from datacenter.audit.chain import AuditEntry
from datacenter.sign_on.pending import PENDING_MS
from datacenter.sign_on.provider import KEYS_SECONDS_MIN, METADATA_SECONDS, SKEW_SECONDS, Provider
from datacenter.sign_on.settings import Oidc
from datacenter.sign_on.sign_on import SignOn
from datacenter.store.errors import StoreError
from datacenter.store.store import Store
from datacenter.store.tables.schema import web_sessions
from datacenter.web.signing_in.sign_in import SIGN_ON_PATH
from tests.support.datacenter.web.client import PEOPLE, STAFF, Answer, WebClient, open_web
from tests.support.datacenter.web.fleet import NOW_MS
from tests.support.datacenter.web.planted_provider import (
    CLIENT,
    PlantedProvider,
    planted_provider,
    signed_with,
    unsigned,
)
from tests.support.datacenter.web.sign_on import PAGES, Begun, begin, call_back, open_pages, signed_on


@dataclass
class Clock:
    """The clock of the pages in ms, and the offset of the provider's clock from the system's in s."""

    ms: int = NOW_MS
    offset_s: float = 0.0

    def now_ms(self) -> int:
        return self.ms

    def now_s(self) -> float:
        return time.time() + self.offset_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def planted() -> Iterator[PlantedProvider]:
    with planted_provider() as provider:
        yield provider


@pytest.fixture
def web(filled: Store, planted: PlantedProvider, clock: Clock) -> WebClient:
    with filled.transaction() as connection:
        connection.execute(delete(web_sessions))  # other tests' sessions count towards the limit of a person
    return open_pages(filled, Oidc(planted.issuer, CLIENT, PAGES), clock.now_ms, clock.now_s)


def sign_on(web: WebClient, planted: PlantedProvider, target: str = "/", **claims: object) -> Answer:
    begun = begin(web, target)
    planted.issue(planted.claims(begun.query["nonce"], **claims))
    return call_back(web, begun)


def refusals(web: WebClient) -> list[tuple[str, str, str]]:
    return [(one.action, one.actor, one.reason) for one in web.entries if one.outcome == "refused"]


def permissions(web: WebClient) -> list[AuditEntry]:
    return [
        one for one in web.entries if one.outcome == "permitted" and one.action in ("sign-in", "sign-out")
    ]


def opens_nothing(web: WebClient, answer: Answer, status: int = 403) -> None:
    assert (answer.status, "rap-session" in answer.cookies) == (status, False)
    assert not permissions(web)


def test_a_person_signs_on_at_an_independent_provider_and_signs_out(
    filled: Store, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("any")
    claims = {
        "groups": ["rap-service"],
        "site": ["europe"],
        "name": "Service engineer",
        "zoneinfo": "Asia/Tokyo",
    }
    with run_server_in_thread(
        user_claims=[User(sub="new-engineer", claims=claims)], require_nonce=True
    ) as server:
        settings = Oidc(
            f"http://localhost:{server.server_port}",
            CLIENT,
            PAGES,
            tmp_path / "secret",
            roles="groups",
            role={"rap-service": "service-engineer"},
            locations="site",
            location={"europe": "region/europe"},
        )
        web = open_pages(filled, settings, clock.now_ms, clock.now_s)
        assert f'href="{SIGN_ON_PATH}?next=/boxes/RAP-0001"' in web.get("/boxes/RAP-0001").text
        begun = begin(web, "/boxes/RAP-0001")
        sent = httpx.post(begun.url, data={"sub": "new-engineer"})
        location = urlsplit(sent.headers["location"])
        assert f"{location.scheme}://{location.netloc}{location.path}" == f"{PAGES}/sign-in/callback"
        query = {name: values[0] for name, values in parse_qs(location.query).items()}
        answer = call_back(web, begun, **query)
        assert answer.status == 200 and 'content="0;url=/boxes/RAP-0001"' in answer.text
        assert "HttpOnly" in answer.cookies and "SameSite=strict" in answer.cookies
        person = signed_on(web, answer)
        assert person.staff == "new-engineer"
        assert person.get("/boxes/RAP-0001").status == 200
        assert person.get("/boxes/RAP-0003").status == 404
        assert "Asia/Tokyo" in person.get("/instruments/RAP-0001/CHEM-0001").text
        assert person.get("/api/v1/boxes").status == 200
        out = person.post("/sign-out")
        end = re.search(r'href="(http://localhost:[^"]+)"', out.text)
        assert end and "/oauth2/end_session?" in end[1] and "id_token_hint=" in end[1]
        assert person.get("/boxes/RAP-0001").status == 401
    assert [(one.action, one.actor, one.reason) for one in permissions(web)] == [
        ("sign-in", "new-engineer", f"by {settings.issuer}"),
        ("sign-out", "new-engineer", "signed out"),
    ]


def test_the_request_has_pkce_state_and_nonce_and_the_code_its_verifier(
    web: WebClient, planted: PlantedProvider
) -> None:
    first, second = begin(web), begin(web)
    for name in ("state", "nonce", "code_challenge"):
        assert len(first.query[name]) >= 43 and first.query[name] != second.query[name]
    assert first.query["code_challenge_method"] == "S256"
    assert first.query["redirect_uri"] == f"{PAGES}/sign-in/callback"
    planted.issue(planted.claims(first.query["nonce"]))
    assert call_back(web, first, code="the-code").status == 200
    ((_, form),) = [one for one in planted.requests if one[0] == "/token"]
    assert (form["code"], form["client_id"]) == ("the-code", CLIENT)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
    assert challenge.decode().rstrip("=") == first.query["code_challenge"]


def test_a_client_with_a_secret_authenticates(
    filled: Store, planted: PlantedProvider, clock: Clock, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    settings = Oidc(planted.issuer, CLIENT, PAGES, client_secret=file)
    for methods, basic in ((["client_secret_basic"], True), (["client_secret_post"], False)):
        metadata = planted.metadata(token_endpoint_auth_methods_supported=methods)
        planted.answers["/.well-known/openid-configuration"] = metadata
        web = open_pages(filled, settings, clock.now_ms, clock.now_s)
        assert sign_on(web, planted).status == 200
        form = planted.requests[-2][1] if planted.requests[-1][0] == "/keys" else planted.requests[-1][1]
        expected = f"Basic {base64.b64encode(f'{CLIENT}:s3cret'.encode()).decode()}" if basic else ""
        assert (form["authorization"], form.get("client_secret")) == (expected, None if basic else "s3cret")


def now() -> int:
    return int(time.time())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://login.example.com"}, "invalid claim of iss"),
        ({"iss": None}, "missing claim of iss"),
        ({"aud": "another-client"}, "invalid claim of aud"),
        ({"aud": None}, "missing claim of aud"),
        ({"aud": [CLIENT, "another-client"]}, "missing claim of azp"),
        ({"azp": "another-client"}, "invalid claim of azp"),
        ({"nonce": "another-nonce-of-the-same-length-0123456789ab"}, "invalid claim of nonce"),
        ({"nonce": None}, "missing claim of nonce"),
        ({"exp": now() - SKEW_SECONDS - 60}, "expired token"),
        ({"exp": None}, "missing claim of exp"),
        ({"exp": "never"}, "invalid claim of exp"),
        ({"iat": now() + 3600}, "invalid claim of iat"),
        ({"iat": None}, "missing claim of iat"),
        ({"nbf": now() + 3600}, "invalid claim of nbf"),
        ({"sub": None}, "missing claim of sub"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "invalid claim of at_hash"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_an_id_token_with_a_wrong_claim_is_refused(
    web: WebClient, planted: PlantedProvider, changes: dict[str, Any], reason: str
) -> None:
    opens_nothing(web, sign_on(web, planted, **changes))
    ((action, actor, recorded),) = refusals(web)
    assert (action, actor) == ("sign-in", "") and reason.replace("_", " ") in recorded


def test_an_id_token_without_a_right_signature_is_refused(web: WebClient, planted: PlantedProvider) -> None:
    def answered(token: str) -> None:
        planted.answers["/token"] = {"id_token": token, "access_token": "access"}

    def forged(begun: Begun) -> Iterator[str]:
        right = planted.claims(begun.query["nonce"])
        yield unsigned(right)
        yield planted.issue(right, key=ECKey.generate_key("P-256", {"kid": "one"}))
        yield planted.issue(right, key=ECKey.generate_key("P-256", {"kid": "unknown"}))
        yield signed_with(planted.keys[0].as_pem(private=False), right)
        head, _, signature = planted.issue(right).split(".")
        body = (
            base64.urlsafe_b64encode(msgspec.json.encode({**right, "sub": "supervisor"})).decode().rstrip("=")
        )
        yield f"{head}.{body}.{signature}"
        yield "no.token"
        yield ""

    for number in range(7):
        begun = begin(web)
        answered(list(forged(begun))[number])
        opens_nothing(web, call_back(web, begun))
    assert len(refusals(web)) == 7


def test_a_key_that_is_not_for_signatures_of_a_provider_is_not_used(
    web: WebClient, planted: PlantedProvider
) -> None:
    shared = OctKey.generate_key(256, {"kid": "shared"})
    for_encryption = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
    planted.publish(shared.as_dict(private=True), for_encryption.as_dict(private=False))
    for key, algorithm in ((shared, "HS256"), (for_encryption, "RS256")):
        begun = begin(web)
        unmarked = (
            RSAKey.import_key({k: v for k, v in key.as_dict(private=True).items() if k != "use"})
            if (key is for_encryption)
            else key
        )
        planted.issue(planted.claims(begun.query["nonce"]), key=unmarked, algorithm=algorithm)
        opens_nothing(web, call_back(web, begun))
    begun = begin(web)
    planted.issue(planted.claims(begun.query["nonce"]), header={"kid": None})
    assert call_back(web, begun).status == 200, "without a key id, the only key for signatures is used"


def test_clocks_may_differ_a_little(web: WebClient, planted: PlantedProvider) -> None:
    assert sign_on(web, planted, exp=now() - SKEW_SECONDS // 2).status == 200
    assert sign_on(web, planted, iat=now() + SKEW_SECONDS // 2).status == 200


def test_a_new_key_of_the_provider_is_found_and_a_withdrawn_one_refused(
    web: WebClient, planted: PlantedProvider, clock: Clock
) -> None:
    assert sign_on(web, planted).status == 200
    old = planted.keys[0]
    planted.keys = [RSAKey.generate_key(2048, {"kid": "two"})]
    planted.publish()

    def with_key(key: ECKey | RSAKey, algorithm: str) -> int:
        begun = begin(web)
        planted.issue(planted.claims(begun.query["nonce"]), key=key, algorithm=algorithm)
        return call_back(web, begun).status

    assert with_key(planted.keys[0], "RS256") == 403, "keys are not read again at once"
    clock.offset_s += KEYS_SECONDS_MIN
    assert with_key(planted.keys[0], "RS256") == 200
    assert with_key(old, "ES256") == 403
    reads = sum(path == "/keys" for path, _ in planted.requests)
    assert with_key(old, "ES256") == 403
    assert sum(path == "/keys" for path, _ in planted.requests) == reads


def test_a_state_is_used_once_by_the_browser_that_began_and_for_a_limited_time(
    web: WebClient, planted: PlantedProvider, clock: Clock
) -> None:
    begun, other = begin(web), begin(web)
    planted.issue(planted.claims(begun.query["nonce"]))
    assert call_back(web, begun, cookie=other.cookie).status == 403
    assert call_back(web, begun, cookie="").status == 403
    assert call_back(web, begun, state="unknown").status == 403
    assert not permissions(web)
    assert call_back(web, begun).status == 200
    assert call_back(web, begun).status == 403, "replayed"
    late = begin(web)
    planted.issue(planted.claims(late.query["nonce"]))
    clock.ms += PENDING_MS
    assert call_back(web, late).status == 403
    assert {reason for _, _, reason in refusals(web)} == {
        "the state is unknown, used, expired, or of another browser"
    }
    assert len(refusals(web)) == 5 and len(permissions(web)) == 1


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/%5Cevil.example", "javascript:x"]
)
def test_a_sign_on_redirects_only_to_this_server(
    web: WebClient, planted: PlantedProvider, target: str
) -> None:
    answer = sign_on(web, planted, target)
    assert 'content="0;url=/"' in answer.text and "evil" not in answer.text


def test_a_refusal_of_the_provider_and_an_answer_of_another_one_open_nothing(
    web: WebClient, planted: PlantedProvider
) -> None:
    for changes, reason in (
        ({"error": "access_denied", "code": ""}, "the provider refuses: access_denied"),
        ({"error": "Erika", "code": ""}, "the provider refuses: unknown error"),
        ({"code": ""}, "the response contains no code"),
        ({"iss": "https://login.example.com"}, "the response is from another issuer"),
    ):
        begun = begin(web)
        planted.issue(planted.claims(begun.query["nonce"]))
        opens_nothing(web, call_back(web, begun, **changes))
        assert refusals(web)[-1][2] == reason


def test_a_provider_with_invalid_responses_opens_nothing(
    filled: Store, planted: PlantedProvider, clock: Clock
) -> None:
    metadata_path = "/.well-known/openid-configuration"
    for answer, reason in (
        (None, "a response has status 404"),
        (b"<html>", "the metadata: not as OpenID Connect defines it"),
        (b"{" + b" " * 300_000 + b"}", "a response has more than"),
        (planted.metadata(issuer="https://login.example.com"), "the issuer in the metadata is not"),
        (
            planted.metadata(token_endpoint="http://login.example.com/token"),
            "token_endpoint is not an https URL",
        ),
        (
            planted.metadata(authorization_endpoint="javascript:alert(1)"),
            "authorization_endpoint is not an https",
        ),
    ):
        web = open_pages(filled, Oidc(planted.issuer, CLIENT, PAGES), clock.now_ms, clock.now_s)
        planted.answers[metadata_path] = answer
        opens_nothing(web, web.get(SIGN_ON_PATH), 503)
        assert reason in refusals(web)[-1][2]
    unreachable = Oidc("http://127.0.0.1:9", CLIENT, PAGES)
    web = open_pages(filled, unreachable, clock.now_ms, clock.now_s)
    opens_nothing(web, web.get(SIGN_ON_PATH), 503)
    assert refusals(web)[-1][2] == "the provider: no response (ConnectError)"


def test_a_code_that_the_provider_refuses_opens_nothing(web: WebClient, planted: PlantedProvider) -> None:
    for status, of_page in ((400, 403), (401, 403), (302, 503), (500, 503)):
        begun = begin(web)
        planted.issue(planted.claims(begun.query["nonce"]))
        planted.statuses["/token"] = status
        opens_nothing(web, call_back(web, begun), of_page)
        assert f"a response has status {status}" in refusals(web)[-1][2]
    planted.statuses.clear()
    begun = begin(web)
    planted.answers["/token"] = {"access_token": "access"}
    opens_nothing(web, call_back(web, begun), 503)


def test_a_session_that_the_browser_had_before_ends(web: WebClient, planted: PlantedProvider) -> None:
    before = signed_on(web, sign_on(web, planted))
    assert before.get("/").status == 200
    begun = begin(web)
    planted.issue(planted.claims(begun.query["nonce"]))
    answer = web.get(
        f"/sign-in/callback?state={begun.query['state']}&code=c",
        cookie=f"rap-sign-on={begun.cookie}; rap-session={before.cookie}",
    )
    after = signed_on(web, answer)
    assert after.cookie != before.cookie and after.get("/").status == 200
    assert before.get("/").status == 401


def test_a_cookie_that_the_server_has_not_given_is_no_session(
    web: WebClient, planted: PlantedProvider
) -> None:
    chosen = web.sessions.begin("engineer", web.now_ms())
    for cookie in (chosen, "0" * 64, begin(web).cookie):
        assert replace(web, cookie=cookie, staff="engineer").get("/").status == 401


def test_a_sign_on_begun_in_one_process_ends_in_another_and_is_used_once(
    filled: Store, planted: PlantedProvider, clock: Clock
) -> None:
    settings = Oidc(planted.issuer, CLIENT, PAGES)
    first, second = (open_pages(filled, settings, clock.now_ms, clock.now_s) for _ in range(2))
    begun = begin(first, "/alerts")
    planted.issue(planted.claims(begun.query["nonce"]))
    answer = call_back(second, begun)
    assert 'content="0;url=/alerts"' in answer.text
    person = signed_on(first, answer)
    assert person.get("/").status == 200
    for web in (first, second):
        assert call_back(web, begun).status == 403
    changed = open_pages(filled, msgspec.structs.replace(settings, trainings="t"), clock.now_ms, clock.now_s)
    assert replace(changed, cookie=person.cookie).get("/").status == 401, "changed settings end the session"


def test_the_cookie_of_a_sign_on_is_bound_to_its_state(
    web: WebClient, planted: PlantedProvider, clock: Clock
) -> None:
    begun = begin(web, "/alerts")
    planted.issue(planted.claims(begun.query["nonce"]))
    secret, begun_ms, _ = begun.cookie.split(".")
    other = base64.urlsafe_b64encode(b"/commands").decode()
    later = int(begun_ms) + 1
    for cookie in (
        f"{secret}.{begun_ms}.{other}",
        f"{secret}.{later}.Lw==",
        f"{secret}.x.Lw==",
        "a.b",
        "\xe9",
    ):
        opens_nothing(web, call_back(web, begun, cookie=cookie))


@pytest.mark.parametrize(
    "change", [{"active": False}, {"roles": frozenset()}, {"scope": frozenset()}, None], ids=str
)
def test_a_change_of_the_directory_applies_to_open_sessions(
    filled: Store, planted: PlantedProvider, clock: Clock, change: dict[str, Any] | None
) -> None:
    people = dict(PEOPLE)
    settings = Oidc(planted.issuer, CLIENT, PAGES)
    web = open_web(
        filled,
        clock.now_ms,
        staff=StaffDirectory(STAFF.staff, {}, people),
        development=False,
        sign_on=SignOn(settings, Provider(settings, clock.now_s)),
    )
    person = signed_on(web, sign_on(web, planted))
    assert person.get("/").status == 200
    known = people.pop("engineer")
    if change is not None:
        people["engineer"] = replace(known, principal=replace(known.principal, **change))
    assert person.get("/").status == 401


def test_an_access_that_cannot_be_recorded_is_not_given(
    filled: Store, planted: PlantedProvider, clock: Clock
) -> None:
    def fail(_: object) -> None:
        raise StoreError("full")

    settings = Oidc(planted.issuer, CLIENT, PAGES)
    web = open_web(
        filled,
        clock.now_ms,
        development=False,
        append=fail,
        sign_on=SignOn(settings, Provider(settings, clock.now_s)),
    )
    opens_nothing(web, sign_on(web, planted), 503)


def test_many_refusals_of_an_address_are_not_recorded_one_by_one(web: WebClient) -> None:
    statuses = [web.get("/sign-in/callback?state=guess&code=x").status for _ in range(30)]
    assert statuses.count(403) == 20 and statuses.count(429) == 10
    assert len(refusals(web)) == 20


def test_metadata_are_read_again_after_an_hour(
    web: WebClient, planted: PlantedProvider, clock: Clock
) -> None:
    begin(web)
    planted.answers["/.well-known/openid-configuration"] = None
    begin(web)
    clock.offset_s += METADATA_SECONDS
    opens_nothing(web, web.get(SIGN_ON_PATH), 503)


def test_without_a_provider_there_is_no_sign_on(filled: Store, clock: Clock) -> None:
    web = open_web(filled, clock.now_ms)
    assert web.get(SIGN_ON_PATH).status == 404
    assert SIGN_ON_PATH not in web.get("/sign-in").text
