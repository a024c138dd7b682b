from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.wire.grants import BOX_KEYS, DATACENTER, DATACENTER_KEYS, OFFER, granted
from tests.support.wire.session_audits import (
    STARTS_MS,
    STEPS,
    Audits,
    Step,
    later,
    problems_of,
    rechained,
    verdict,
)
from wire.session.audit import AuditFileError, SessionRecord, parse_audit
from wire.session.grant import PresenceEvidence, PresenceWay, sign_offer
from wire.session.verify import verify_audits

FILES = Audits().add().add(later(OFFER, 2000, 7)).files()
LINES = {name: content.splitlines(keepends=True) for name, content in FILES.items()}
EACH_LINE = [(name, number) for name, lines in LINES.items() for number in range(1, len(lines))]
SESSION = OFFER.id.hex()


def test_consistent_files_of_both_ends_are_proven() -> None:
    result = verdict(FILES)
    assert result.is_proven
    assert [
        (session.session, session.staff, session.tunnel_ms, session.causes) for session in result.sessions
    ] == [
        (SESSION, "m.curie", 600_000, ("ended by the person",)),
        ("07" * 16, "m.curie", 600_000, ("ended by the person",)),
    ]


def with_lines(name: str, lines: list[bytes]) -> dict[str, bytes]:
    return {**FILES, name: b"".join(lines)}


# changes of a file


@pytest.mark.parametrize(("name", "number"), EACH_LINE)
def test_a_cut_record_is_found(name: str, number: int) -> None:
    lines = LINES[name]
    problems = problems_of(with_lines(name, lines[:number] + lines[number + 1 :]))
    last = number == len(lines) - 1
    assert any(f"record {number} is missing" in problem for problem in problems) or (last and problems == [])


@pytest.mark.parametrize("name", LINES)
def test_a_cut_tail_is_found_by_the_heads_at_the_other_end(name: str) -> None:
    """The last two records of each file concern the last heads themselves, and no session."""
    lines = LINES[name]
    for kept in range(1, len(lines) - 2):
        problems = problems_of(with_lines(name, lines[:kept]))
        assert any("missing" in problem for problem in problems), f"cut after {kept}"


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, number in EACH_LINE if number < len(LINES[name]) - 1]
)
def test_swapped_records_are_found(name: str, number: int) -> None:
    lines = list(LINES[name])
    lines[number], lines[number + 1] = lines[number + 1], lines[number]
    assert any("out of order" in problem for problem in problems_of(with_lines(name, lines)))


@pytest.mark.parametrize(("name", "number"), EACH_LINE)
def test_a_repeated_record_is_found(name: str, number: int) -> None:
    lines = LINES[name]
    problems = problems_of(with_lines(name, lines[:number] + lines[number : number + 1] + lines[number:]))
    assert any("out of order" in problem for problem in problems)


@settings(max_examples=300)
@given(st.data())
def test_a_changed_bit_is_found(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["dc", "box"]))
    content = bytearray(FILES[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        problems = problems_of({**FILES, name: bytes(content)})
    except AuditFileError:
        return
    assert problems


@pytest.mark.parametrize("name", LINES)
def test_an_incomplete_line_is_named(name: str) -> None:
    with pytest.raises(AuditFileError, match=f"line {len(LINES[name])}: is incomplete"):
        parse_audit(FILES[name][:-1])


def test_another_file_is_named() -> None:
    with pytest.raises(AuditFileError, match="line 1: is not the first line of an audit file of sessions"):
        parse_audit(b"{}\n")
    with pytest.raises(AuditFileError, match="the format rap-session-audit-9 is not known"):
        parse_audit(LINES["dc"][0].replace(b"audit-1", b"audit-9"))


def test_exchanged_files_are_named() -> None:
    dc, box = parse_audit(FILES["dc"]), parse_audit(FILES["box"])
    problems = verify_audits(box, dc, DATACENTER_KEYS, BOX_KEYS).problems
    assert "the data center's file is one of the box" in problems


def test_another_owner_is_found() -> None:
    lines = [LINES["box"][0].replace(b"RAP-0001", b"RAP-0002"), *LINES["box"][1:]]
    assert any("record 1 does not follow" in problem for problem in problems_of(with_lines("box", lines)))


# changes by somebody who can compute the hashes again but has no key


def delete_last_session(records: list[SessionRecord]) -> None:
    records[:] = [record for record in records if record.session != "07" * 16]


def shorten(records: list[SessionRecord]) -> None:
    index = next(number for number, record in enumerate(records) if record.state == "ending")
    previous = records[index - 1]
    records[index] = msgspec.structs.replace(records[index], monotonic_ms=previous.monotonic_ms + 1)


def insert(records: list[SessionRecord]) -> None:
    records.insert(3, records[2])


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("change", [delete_last_session, shorten, insert])
def test_a_recomputed_chain_does_not_have_the_signed_heads(
    name: str, change: Callable[[list[SessionRecord]], None]
) -> None:
    problems = problems_of({**FILES, name: rechained(FILES[name], change)})
    assert any(
        "is not the one whose hash was saved" in problem or "missing" in problem for problem in problems
    )


def test_heads_without_a_signature_of_the_end_are_found() -> None:
    def forge(records: list[SessionRecord]) -> None:
        index = next(number for number, record in enumerate(records) if record.kind == "head")
        records[index] = msgspec.structs.replace(records[index], message="00")

    assert any(
        "the head is not a COSE_Sign1" in problem
        for problem in problems_of({**FILES, "dc": rechained(FILES["dc"], forge)})
    )


# false records that an end itself writes and signs with its own key


def shifted(end: str, event: str, seconds: int) -> tuple[Step, ...]:
    return tuple(
        (step[0], step[1] + seconds, *step[2:]) if step[0] == end and step[2] == event else step
        for step in STEPS
    )


def without(*left_out: tuple[str, str]) -> tuple[Step, ...]:
    return tuple(step for step in STEPS if (step[0], step[4]) not in left_out)


AT_THE_DEADLINE = tuple((step[0], 1800 if step[1] >= 64 else step[1], *step[2:]) for step in STEPS)
LATE = tuple((step[0], step[1] + 1200 if step[1] > 600 else step[1], *step[2:]) for step in STEPS)


@pytest.mark.parametrize(
    ("audits", "problem"),
    [
        (
            Audits().add().change("box", "authorized", message=""),
            "box: record 3: had a tunnel without a grant",
        ),
        (
            Audits().add().change("dc", "authorized", message=""),
            "data center: record 4: had a tunnel without a grant",
        ),
        (Audits().add().change("box", "offered", message=""), "box: has no offer"),
        (
            Audits().add().change("box", "authorized", message="d284"),
            "box: record 2: the message of `authorize` is not deterministic CBOR",
        ),
        (
            Audits().add(steps=without(("box", "authorized"))),
            "box: record 2: `certificate received` by the data center does not lead from offered to opening",
        ),
        (
            Audits().add().change("box", "authorized", actor="clock"),
            "box: record 2: `authorize` by the clock does not lead from offered to authorized",
        ),
        (
            Audits().add().change("box", "ending", cause="expired"),
            "`person ends` by the person does not lead from open to ending (expired)",
        ),
        (Audits().add(steps=AT_THE_DEADLINE), "data center: record 5: open 0 ms after the deadline"),
        (
            Audits().add().change("box", "offered", message=sign_offer(OFFER, DATACENTER).hex()),
            "box: the grant is for another offer than the recorded one",
        ),
        (Audits().add(steps=LATE), "box: record 7: ending 64000 ms after the deadline"),
        (Audits().add(steps=LATE), "data center: record 9: ending 65000 ms after the deadline"),
        (
            Audits().add(steps=without(("box", "ending"), ("box", "ended"))),
            "box: has no end: the last state is open",
        ),
        (
            Audits().add().change("box", "open", monotonic_ms=STARTS_MS["box"]),
            "box: record 5 is 64000 ms earlier than the previous one",
        ),
        (
            Audits().add().change("box", "offered", deadline_ms=STARTS_MS["box"] + 9_000_000),
            "box: record 1: the deadline is 8999000 ms after the record; the offer is valid for 1800000 ms",
        ),
        (Audits().add().change("dc", "requested", deadline_ms=0), "data center: record 1: has no deadline"),
        (
            Audits().add().change("box", "open", run="2"),
            "continues in another run of the program without `restarted`",
        ),
        (
            Audits().add(steps=[step for step in STEPS if step[0] == "dc"]),
            "open at the data center, but the box has no record of opening",
        ),
        (
            Audits().add(steps=[step for step in STEPS if step[0] == "box"]),
            "opening at the box, but the data center has no record of opening",
        ),
        (
            Audits().add(steps=shifted("dc", "grant received", -3)),
            "the ends contradict each other by 1000 ms",
        ),
        (
            Audits().add().change("dc", "requested", at_ms=OFFER.issued * 1000 + 60_000),
            "data center: the offer was issued 60000 ms from its record",
        ),
        (
            Audits()
            .add()
            .change(
                "box",
                "authorized",
                at_ms=OFFER.issued * 1000 + 30_000,
                monotonic_ms=STARTS_MS["box"] + 30_000,
            ),
            "box: the evidence `code` is not from the time between offer and authorization",
        ),
        (Audits().add(replace(OFFER, box="RAP-0002")), "the offer is by dc.example for RAP-0002"),
        (
            Audits().add().add(later(OFFER, 300, 7)).interleave(),
            f"the sessions {SESSION} and {'07' * 16} had a tunnel of the same box at the same time",
        ),
        (Audits().add().add(), "does not lead from ended to"),
    ],
)
def test_a_false_record_of_an_end_is_found(audits: Audits, problem: str) -> None:
    problems = problems_of(audits.files())
    assert any(problem in reported for reported in problems), problems


def test_a_grant_of_another_session_is_found() -> None:
    other = granted(sign_offer(replace(OFFER, id=b"x" * 16), DATACENTER))
    problems = problems_of(Audits().add().change("box", "authorized", message=other.hex()).files())
    assert f"box: the grant is that of session {(b'x' * 16).hex()}" in problems
    assert "the ends have recorded different grants" in problems


def test_a_consent_of_another_time_is_found() -> None:
    old = (PresenceEvidence(PresenceWay.CODE, "page at port 2", OFFER.issued - 86_400),)
    offer = bytes.fromhex(parse_audit(FILES["dc"]).lines[0].record.message)
    audits = Audits().add()
    for end in ("dc", "box"):
        audits.change(end, "authorized", message=granted(offer, old).hex())
    assert "box: the evidence `code` is not from the time between offer and authorization" in problems_of(
        audits.files()
    )


# differences that are not manipulations


@pytest.mark.parametrize("skew_ms", [-86_400_000, -1000, 1000, 86_400_000])
def test_a_wrong_wall_clock_of_the_box_is_not_a_problem(skew_ms: int) -> None:
    assert problems_of(Audits().add(skew_ms=skew_ms).files()) == []


def test_a_session_that_nobody_permitted_had_no_tunnel() -> None:
    steps = (
        *STEPS[:3],
        ("box", 1800, "deadline", "clock", "ending", "expired"),
        ("box", 1800, "closed", "box", "ended", ""),
        ("dc", 1800, "deadline", "clock", "ending", "expired"),
        ("dc", 1800, "closed", "data center", "ended", ""),
    )
    result = verdict(Audits().add(steps=steps).files())
    assert result.is_proven
    assert [(session.tunnel_ms, session.causes) for session in result.sessions] == [(0, ("expired",))]


def test_a_restart_of_the_box_ends_the_tunnel() -> None:
    audits = Audits().add(
        steps=[
            *without(("box", "ending"), ("box", "ended")),
            ("box", 700, "restarted", "box", "ending", "restarted"),
            ("box", 700, "closed", "box", "ended", ""),
        ]
    )
    audits.change("box", "ending", run="2", monotonic_ms=5).change("box", "ended", run="2", monotonic_ms=6)
    audits.change("dc", "ending", event="line lost", actor="line", cause="line lost")
    result = verdict(audits.files())
    assert result.is_proven, result
    assert [(session.tunnel_ms, session.causes) for session in result.sessions] == [
        (601_000, ("line lost", "restarted"))
    ]


def test_sessions_of_other_boxes_are_not_required() -> None:
    audits = Audits().add()
    only_dc = [step for step in STEPS if step[0] == "dc"]
    audits.add(replace(later(OFFER, 1000, 9), box="RAP-0002"), steps=only_dc)
    result = verdict(audits.files())
    assert [session.session for session in result.sessions] == [SESSION]
    assert result.is_proven
