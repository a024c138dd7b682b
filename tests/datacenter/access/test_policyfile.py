"""Every mistake in a policy is reported with its line and its correction."""

from __future__ import annotations

from pathlib import Path

import pytest

from datacenter.access.language.policyfile import SHIPPED, parse_policies, read_policies
from settings.problems import SettingsError
from tests.support.datacenter.access.cases import FILE

OPEN = 'permit (principal, action == Action::"open-session", resource) when '
MISTAKES = [
    ('permit (principal in Role::"viewr", action, resource);', 'unknown role "viewr": did you mean viewer?'),
    ('permit (principal, action == Action::"veiw", resource);', 'unknown action "veiw": did you mean view?'),
    (
        'permit (principal, action in [Action::"raed"], resource);',
        'unknown action "raed": did you mean read?',
    ),
    (
        "permit (principal, action, resource is Instument);",
        "unknown type `Instument`: did you mean Instrument?",
    ),
    ("permit (principal is Stuff, action, resource);", "unknown type `Stuff`: did you mean Staff?"),
    (
        '{ resource.modell == "x" };',
        "unknown attribute `modell` of `resource`: did you mean model?",
    ),
    (
        '{ principal.scop.contains(Location::"everywhere") };',
        "did you mean scope?",
    ),
    (
        '{ context.porpose == Purpose::"audit" };',
        "did you mean purpose?",
    ),
    ("{ context has aproval };", "did you mean approval?"),
    (
        '{ context.purpose == Purpose::"servise" };',
        'unknown purpose "servise": did you mean service?',
    ),
    (
        '{ resource in Location::"DE" };',
        '"DE" is not a location: it must be one of "everywhere", "site/…", "country/…", "region/…"',
    ),
    (
        '{ resource.model == "x" };',
        "limit the policy to Instrument, Alert",
    ),
    (
        'permit (principal, action == Action::"view", resource is Policy);',
        "never applies: its action has no resource of this type",
    ),
    ('permit (principal, action == Action::"approve", resource is Alert);', "never applies"),
    ('permit (principal, action == Action::"view", resource) when { false };', "never applies"),
    (
        OPEN + "{ context.now_ms < principal.getTag(resource.model) };",
        "write `principal.hasTag(resource.model) && …` before `getTag`",
    ),
    (
        "{ context.token.expires_ms > 5 };",
        "`context.token` is optional: write `context has token && …` before it",
    ),
    (
        "{ context.now_ms + 1 > 5 };",
        "`+` is not supported here",
    ),
    (
        OPEN + '{ resource.model like "hema*" };',
        "`like` is not supported",
    ),
    (
        'permit (principal, action == Action::"approve", resource) when { resource.requester in Role::"viewer" };',
        "the groups of an attribute are not known",
    ),
    (
        '{ principal.scope == [Location::"everywhere"] };',
        "sets cannot be compared; use `contains`",
    ),
    (
        "{ context has token && principal.scope.containsAll(context.token.scope) };",
        "a comparison of two sets is not supported",
    ),
    (
        "{ [].contains(principal) };",
        "a set must consist of literals",
    ),
    (
        '{ context.purpose == "service" };',
        "the types String and Purpose are not compatible",
    ),
    (
        '{ principal in Location::"everywhere" };',
        "`principal in` needs Role or Staff, not Location",
    ),
    ("{ 1 };", "is not a condition"),
    ("{ resource };", "is not a condition"),
    (
        '{ ip("1.2.3.4").isIpv4() };',
        "is not supported here",
    ),
    ("permit (principal == ?principal, action, resource);", "is a template"),
    ("permit (principal action, resource);", "syntax error at `action`"),
    (
        '{ resource.model = "x" };',
        "'=' is not a valid operator in Cedar",
    ),
    ('permit (principal in [Role::"viewer"], action, resource);', "write several as a condition"),
    ("permit (principal, action, resource)", "the policy is not complete; end it with `;`"),
    ("allow (principal, action, resource);", "allow"),
    (
        OPEN + '{ resource.model == "a\\u{0}b" };',
        "control characters",
    ),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_reported_with_its_line_and_correction(text: str, message: str) -> None:
    """The mistake is in the second policy, in line 3, 4 or 5 of the file."""
    before = (
        '@id("right") permit (principal, action == Action::"view", resource); // a comment; with "signs\n'
    )
    text = f"permit (principal, action, resource) when {text}" if text.startswith("{") else text
    scope, when, rest = text.partition(" when ")
    with pytest.raises(SettingsError) as raised:
        parse_policies(f'{before}\n@id("wrong")\n{scope}\n{when}{rest}\n', FILE)
    first, *_ = str(raised.value).splitlines()
    assert message in str(raised.value)
    assert first.startswith(f"{FILE}:") and first.split(":")[1] in ("3", "4", "5")


def test_the_line_is_that_of_the_wrong_attribute() -> None:
    text = (
        '@id("a")\npermit (principal, action, resource)\nwhen {\n'
        '  // modell\n  principal.active &&\n  resource.modell == "x"\n};'
    )
    with pytest.raises(SettingsError, match=rf"^{FILE}:6: unknown attribute"):
        parse_policies(text, FILE)


def test_all_mistakes_of_a_file_are_reported_at_once() -> None:
    text = (
        '@id("a") permit (principal in Role::"x", action == Action::"y", resource is Z)\n'
        'when { context.purpose == Purpose::"p" && context.what };\n'
        "permit (principal, action, resource);\n"
        '@id("a") forbid (principal, action == Action::"view", resource);\n'
        '@id("b") forbid (principal action);\n'
    )
    with pytest.raises(SettingsError) as raised:
        parse_policies(text, FILE)
    lines = [line.removeprefix(f"{FILE}:") for line in str(raised.value).splitlines()]
    assert [line[:2] for line in lines] == ["1:", "1:", "1:", "2:", "2:", "3:", "4:", "5:"]
    assert lines[5] == '3: `@id("…")` is missing before `permit`'
    assert lines[6] == '4: `@reason("…")` is missing before `forbid`'


def test_an_id_is_used_once_in_all_files(tmp_path: Path) -> None:
    one, two = tmp_path / "1.cedar", tmp_path / "2.cedar"
    for file in (one, two):
        file.write_text('\n@id("same") permit (principal, action == Action::"view", resource);')
    with pytest.raises(
        SettingsError, match=rf'2\.cedar:2: `@id\("same"\)` is also at {one}:2; give each policy'
    ):
        read_policies([one, two])


def test_a_policy_that_is_too_long_is_refused() -> None:
    condition = " || ".join(['resource in Location::"everywhere"'] * 1_000)
    with pytest.raises(SettingsError, match="the maximum is 20000"):
        parse_policies(f'@id("a") permit (principal, action, resource) when {{ {condition} }};', FILE)


def test_a_deeply_nested_policy_is_refused() -> None:
    condition = "!(" * 300 + "principal.active" + ")" * 300
    with pytest.raises(SettingsError, match=r":1: "):
        parse_policies(f'@id("a") permit (principal, action, resource) when {{ {condition} }};', FILE)


def test_a_file_that_is_missing_or_no_text_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_policies([tmp_path / "none.cedar"])
    (tmp_path / "bytes.cedar").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not a text file in UTF-8"):
        read_policies([tmp_path / "bytes.cedar"])


def test_shipped_policies_are_part_of_the_package() -> None:
    assert len(SHIPPED) >= 5
    assert len(read_policies().policies) > 30
