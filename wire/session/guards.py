"""The guards of the transitions: named predicates over a record of facts.

The default of each fact is the refusing value: a fact that was not collected keeps a session closed. Times are
of the monotonic clock of the end that collects the facts, which is independent of the wall clock.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias


class Facts(NamedTuple):
    """The facts about a session that one end has at the moment of an event."""

    now_ns: int = 0
    """The monotonic clock of this end."""
    deadline_ns: int = 0
    """The time at which the offer, and later the grant, expires on the monotonic clock of this end."""
    audit_written: bool = False
    """The audit record of this transition is durable."""
    request_permitted: bool = False
    """The access policies permit this session to the staff member, and nobody has withdrawn the approval."""
    training_valid: bool = False
    """The staff member's training for this instrument is valid now."""
    offer_signed: bool = False
    """The offer is signed by the data center, for this box."""
    id_unused: bool = False
    """This end's audit log has no record of the session's id."""
    ways_required: int = 1
    """The number of ways in which the site requires a person to prove the presence, at least one."""
    ways_proved: int = 0
    """The number of these ways that the person has completed."""
    offer_hash: bytes = b""
    """SHA-256 of the offer."""
    evidence_hash: bytes | None = None
    """SHA-256 of the offer to which the person's evidence belongs."""
    screen_shared: bool = True
    """The evidence was given on the screen of an instrument whose desktop is shared: staff could have given it."""
    wrong_codes: int = 0
    """The number of wrong codes that were entered for this offer before."""
    wrong_codes_max: int = 0
    """The number of wrong codes after which the next one ends the offer."""
    grant_verified: bool = False
    """Both signatures of the grant are valid, and the box's is over evidence for this offer."""
    certificate_matches: bool = False
    """The session's certificate was issued by the data center, for this session's key, and ends with the grant."""
    others_with_tunnel: int = 1
    """The number of other sessions of this box that are opening, open or ending at this end."""
    path_fenced: bool = False
    """The firewall of this end is in force and restricts the tunnel to the instrument's one TCP port."""
    recording_writable: bool = False
    """The recording is open and its first block durable."""
    tunnel_gone: bool = False
    """The tunnel's process has exited, and the session's firewall element is removed."""


Guard: TypeAlias = Callable[[Facts], bool]


def audit_written(facts: Facts) -> bool:
    """The audit record of the transition is durable: an unrecorded transition is not executed."""
    return facts.audit_written


def request_permitted(facts: Facts) -> bool:
    """The access policies permit the session, and its approval is not withdrawn."""
    return facts.request_permitted


def training_valid(facts: Facts) -> bool:
    """The staff member's training for this instrument has not expired."""
    return facts.training_valid


def offer_signed(facts: Facts) -> bool:
    """The offer is signed by the data center, for this box."""
    return facts.offer_signed


def id_unused(facts: Facts) -> bool:
    """No session with this id was ever recorded here: a grant is used only once, even after a restart."""
    return facts.id_unused


def unexpired(facts: Facts) -> bool:
    """The deadline of the offer or grant is not reached on the monotonic clock."""
    return facts.now_ns < facts.deadline_ns


def deadline_reached(facts: Facts) -> bool:
    """The deadline of the offer or grant is reached on the monotonic clock."""
    return facts.now_ns >= facts.deadline_ns


def evidence_complete(facts: Facts) -> bool:
    """The person has completed each way of proving the presence that the site requires, at least one."""
    return facts.ways_proved >= facts.ways_required > 0


def evidence_matches(facts: Facts) -> bool:
    """The evidence was given for exactly this offer."""
    return facts.evidence_hash is not None and facts.evidence_hash == facts.offer_hash


def screen_not_shared(facts: Facts) -> bool:
    """The evidence was not given on a screen that staff can operate: a shared desktop may only end a session."""
    return not facts.screen_shared


def tries_left(facts: Facts) -> bool:
    """Another code may be tried."""
    return facts.wrong_codes < facts.wrong_codes_max


def grant_verified(facts: Facts) -> bool:
    """The grant has valid signatures of the data center and of the box, over evidence for this offer."""
    return facts.grant_verified


def certificate_matches(facts: Facts) -> bool:
    """The session's certificate was issued by the data center, for this session's key, and ends with the grant."""
    return facts.certificate_matches


def tunnel_free(facts: Facts) -> bool:
    """No other session of this box is opening, open or ending at this end: a box has one tunnel at a time."""
    return facts.others_with_tunnel == 0


def path_fenced(facts: Facts) -> bool:
    """The firewall of this end is in force and restricts the tunnel to the instrument's one TCP port."""
    return facts.path_fenced


def recording_writable(facts: Facts) -> bool:
    """The recording of the session can be written."""
    return facts.recording_writable


def tunnel_gone(facts: Facts) -> bool:
    """The tunnel's process has exited, and the session's firewall element is removed."""
    return facts.tunnel_gone


GUARDS: Final[dict[str, Guard]] = {
    guard.__name__: guard
    for guard in (
        audit_written,
        request_permitted,
        training_valid,
        offer_signed,
        id_unused,
        unexpired,
        deadline_reached,
        evidence_complete,
        evidence_matches,
        screen_not_shared,
        tries_left,
        grant_verified,
        certificate_matches,
        tunnel_free,
        path_fenced,
        recording_writable,
        tunnel_gone,
    )
}
"""Every guard by its name, in the order in which a session meets them."""


def meaning(guard: str) -> str:
    """Return the sentence that describes a guard."""
    return inspect.cleandoc(GUARDS[guard].__doc__ or "")
