"""Reads policy files (Cedar), and reports every mistake with file, line and correction.

Each policy has an annotation `@id("…")`, which decisions name as their reason; a `forbid` also has `@reason("…")`,
the sentence that staff read. Syntax and types are those of the Cedar language, checked by its reference
implementation; `datacenter.access.language.translate` describes the supported part.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import cedarpy

from datacenter.access.language.expression import ConditionTypeError
from datacenter.access.language.policy import AccessPolicy, PolicySet, applicable
from datacenter.access.language.translate import translate
from datacenter.access.vocabulary import PAIRS, SCHEMA
from settings.problems import Problem, SettingsError
from settings.toml import read_text

SHIPPED: Final = tuple(sorted((Path(__file__).parents[1] / "policies").glob("*.cedar")))
"""The policies that ship with the program."""
POLICY_CHARACTERS_MAX: Final = 20_000
_TOKEN: Final = re.compile(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"|\w+|::|&&|\|\||[<>=!]=|\S')
_NEVER: Final = (
    "never applies: its action has no resource of this type, or its condition is always false;"
    " correct the action, the type after `is`, or the condition"
)
_FORMS: Final = (
    re.compile(r"for policy `policy\d+`[:,]\s*"),
    re.compile(r" ?\(`policy\d+`\)"),
)


@dataclass(frozen=True)
class _Chunk:
    """The text of one policy and its first line in the file."""

    text: str
    line: int


def read_policies(files: Iterable[Path] = SHIPPED) -> PolicySet:
    """Read policy files. Raises: SettingsError with the mistakes of the first file that has any."""
    policies, errors = read_each(files)
    if errors:
        raise errors[0]
    return policies


def read_each(files: Iterable[Path]) -> tuple[PolicySet, list[SettingsError]]:
    """Read policy files, and return the policies of those without mistakes, and the mistakes of the others."""
    policies: list[AccessPolicy] = []
    errors: list[SettingsError] = []
    for file in files:
        try:
            policies += parse_policies(read_text(file), file, policies)
        except SettingsError as error:
            errors.append(error)
    return PolicySet(tuple(policies)), errors


def parse_policies(text: str, file: Path, before: Sequence[AccessPolicy] = ()) -> tuple[AccessPolicy, ...]:
    """Parse the text of a policy file; `before` are policies of other files.

    Raises: SettingsError with all mistakes.
    """
    problems: list[Problem] = []
    policies: list[AccessPolicy] = []
    ids = {policy.id: f"{policy.file}:{policy.line}" for policy in before}
    for chunk in _chunks(text):
        parsed = _parse_one(chunk, file, problems)
        if parsed is None:
            continue
        if parsed.id in ids:
            message = f'`@id("{parsed.id}")` is also at {ids[parsed.id]}; give each policy a different id'
            problems.append(Problem("", message, parsed.line))
        ids.setdefault(parsed.id, f"line {parsed.line}")
        policies.append(parsed)
    if problems:
        raise SettingsError(file, *sorted(problems, key=lambda problem: problem.line))
    return tuple(policies)


def _parse_one(chunk: _Chunk, file: Path, problems: list[Problem]) -> AccessPolicy | None:
    """Return the policy of a chunk; None, with `problems`, if it has mistakes."""
    before = len(problems)

    def report(message: str, word: str = "") -> None:
        problems.append(Problem("", message, _line_of(chunk, word)))

    if len(chunk.text) > POLICY_CHARACTERS_MAX:
        report(f"the policy has {len(chunk.text)} characters; the maximum is {POLICY_CHARACTERS_MAX}")
        return None
    try:
        template, *more = _templates(chunk.text)
    except ValueError as error:
        line, message = _syntax_error(chunk, str(error))
        problems.append(Problem("", message, line))
        return None
    assert not more, "a chunk ends at the first semicolon"
    condition = translate(template, lambda mistake: report(str(mistake), mistake.word))
    for name in ("id", "reason") if template.effect == "forbid" else ("id",):
        value = template.annotations.get(name, "")
        if not value or not value.isprintable():
            report(f'`@{name}("…")` is missing before `{template.effect}`')
    if len(problems) == before:
        policy = AccessPolicy(
            template.annotations["id"],
            template.effect,
            template.annotations.get("reason", ""),
            condition,
            chunk.text,
            file,
            chunk.line,
        )
        for message in type_mistakes(policy):
            report(message)
    return policy if len(problems) == before else None


def _templates(text: str) -> list[cedarpy.pst.Template]:
    parsed = cedarpy.policies_to_pst(text)
    templates = [*parsed.static_policies.values(), *parsed.templates.values()]
    if not templates:
        raise ValueError("unexpected end of input")
    return templates


def type_mistakes(policy: AccessPolicy) -> list[str]:
    """Check the types of a policy, and whether it can apply to any action and resource type."""
    try:
        results = [applicable([policy], pair) for pair in PAIRS]
    except ConditionTypeError as error:
        return [str(error)]
    checked = cedarpy.validate_policies(policy.text, _schema())
    if checked.errors:
        return list(dict.fromkeys(_readable(error.error) for error in checked.errors))
    return [] if any(each.forbids or each.permits for each in results) else [_NEVER]


@cache
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(SCHEMA)


def _readable(message: str) -> str:
    for form in _FORMS:
        message = form.sub("", message)
    if "unable to find an applicable action" in message:
        return _NEVER
    if "access to optional attribute" in message and (name := re.search(r"attribute `(\w+)", message)):
        return f"`context.{name[1]}` is optional: write `context has {name[1]} && …` before it"
    if "access to tag" in message:
        return "the principal may have no training: write `principal.hasTag(resource.model) && …` before `getTag`"
    return message


def _chunks(text: str) -> Iterator[_Chunk]:
    """Divide a file at the semicolons that end policies; comments and strings may contain others."""
    start = None
    for token in _TOKEN.finditer(text):
        if token[0].startswith("//"):
            continue
        start = token.start() if start is None else start
        if token[0] == ";":
            yield _Chunk(text[start : token.end()], text.count("\n", 0, start) + 1)
            start = None
    if start is not None:
        yield _Chunk(text[start:], text.count("\n", 0, start) + 1)


def _line_of(chunk: _Chunk, word: str) -> int:
    """Return the line of a word of a policy outside of comments; the policy's first line if it is not found."""
    for token in _TOKEN.finditer(chunk.text):
        if word and not token[0].startswith("//") and chunk.text.startswith(word, token.start()):
            return chunk.line + chunk.text.count("\n", 0, token.start())
    return chunk.line


def _syntax_error(chunk: _Chunk, message: str) -> tuple[int, str]:
    """Return the line of a syntax error, and a message.

    The parser does not report positions. A text that ends before the wrong token only causes the error "end of
    input".
    """
    if "expected single entity uid" in message:
        return (
            chunk.line,
            "the scope takes one name; write several as a condition: `when { principal in […] }`",
        )
    tokens = [token for token in _TOKEN.finditer(chunk.text) if not token[0].startswith("//")]
    for token in tokens[:-1]:
        try:
            cedarpy.policies_to_pst(chunk.text[: token.end()])
        except ValueError as error:
            if "end of input" not in str(error):
                line = chunk.line + chunk.text.count("\n", 0, token.start())
                return line, f"syntax error at `{token[0]}`: {error}"
    if "end of input" in message:
        return chunk.line + chunk.text.rstrip().count("\n"), "the policy is not complete; end it with `;`"
    quoted = re.search(r"[`']([^`']+)[`']", message)
    return _line_of(chunk, quoted[1] if quoted else ""), message
