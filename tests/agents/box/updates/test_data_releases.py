"""Data releases on the box: in force for the next report without a restart, or the previous release remains."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import get_args

import pytest

from agents.box.files.store import BoxFiles, FileKey, NoRoomError
from agents.box.updates.data_update import TRIAL_SECONDS_MAX, TRIAL_STARTS_MAX
from agents.box.updates.table import UpdatePhase
from hal.emul.disk import Moment
from settings.profile import load_profile
from tests.support.agents.update_box import (
    CONFIG,
    INSTRUMENT,
    MODEL,
    RANGE_BYTES,
    UpdateBox,
    UpdateCenter,
    operations_of,
    profile_text,
    update_center,
)
from tests.support.imaging.releases import NOW
from wire.http.connection import Response
from wire.messages import Quality
from wire.release.data import render_manifest
from wire.release.messages import UpdateOrder

SHIPPED = load_profile(MODEL).version
FIRST, SECOND = SHIPPED + 1, SHIPPED + 2
PROFILE = f"profiles/{MODEL}.toml"
HELP = {"help/errors-en.txt": b"How to clear an error. " * 300}
OUTCOMES = ("committed", "returned", "refused", "failed")
METADATA_BYTES = 12 * 1024
"""Upper bound for the metadata and the orders of an update."""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> UpdateCenter:
    """Data releases 5 and 6, each with another version of the profile and the same help file."""
    center = update_center(tmp_path_factory.mktemp("releases"), (1, 2))
    center.release_data(5, {PROFILE: profile_text(FIRST, also="new"), **HELP})
    center.release_data(6, {PROFILE: profile_text(SECOND, also="new"), **HELP})
    return center


def ordered(releases: UpdateCenter, order: UpdateOrder | None = None) -> UpdateCenter:
    """Return a data center with an order, which has received no state of the box."""
    return UpdateCenter(
        releases.root,
        dict(releases.metadata),
        dict(releases.targets),
        order or UpdateOrder(7, 5, "data"),
        signed=releases.signed,
    )


@pytest.fixture
def center(releases: UpdateCenter) -> UpdateCenter:
    return ordered(releases)


@pytest.fixture
def box(center: UpdateCenter) -> UpdateBox:
    return UpdateBox(center)


def version(box: UpdateBox) -> int:
    """Return the version of the profile that the next report is compared with."""
    assert box.released is not None
    return box.released.profiles.allowed[INSTRUMENT].profile.version


def refusal(box: UpdateBox, assay: str) -> str:
    """Return why the profile in force refuses a report about an assay; empty if it does not."""
    assert box.released is not None
    return box.released.profiles.allowed[INSTRUMENT].refusal(Quality(1, 0, assay, 1, 0))


def follow(box: UpdateBox, order: UpdateOrder) -> tuple[int, str, str]:
    """Run the box until another order has ended; return the last reported step."""
    before = len(box.center.steps)
    box.center.order = order
    box.run(
        until=lambda: (
            bool(box.center.steps[before:] and box.center.steps[-1][1] in OUTCOMES) and box.is_settled()
        )
    )
    return box.center.steps[-1]


def test_a_new_profile_is_in_force_without_a_restart(box: UpdateBox, center: UpdateCenter) -> None:
    box.run(until=lambda: True)
    assert refusal(box, "new")
    box.run(until=lambda: box.phase is UpdatePhase.DATA_TRIAL and version(box) == FIRST)
    assert not refusal(box, "new") and not refusal(box, "glu") and refusal(box, "foreign")
    box.run()
    assert [step for _, step, _ in center.steps] == ["accepted", "fetched", "applied", "committed"]
    assert version(box) == FIRST and box.recorded[-1] == FIRST
    assert box.state.number == 1, "the slot state was written"
    box.run(until=lambda: True)
    assert box.loaded[-1] == FIRST, "the profile is in force after the next start"


def test_the_machine_and_the_program_start_once(box: UpdateBox) -> None:
    box.run()
    assert box.started == [1] and box.loaded == [SHIPPED] and version(box) == FIRST
    assert box.updater is not None and box.updater.status.data == 5


def test_files_that_an_earlier_release_has_are_not_fetched_again(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run()
    requests = len(center.requests)
    assert follow(box, UpdateOrder(8, 6, "data")) == (6, "committed", "")
    (help_file,) = HELP.values()
    assert not any(sha256(help_file).hexdigest() in request for request in center.requests[requests:])
    assert version(box) == SECOND


def test_a_report_that_only_the_new_profile_refuses_ends_the_trial_and_is_accepted(
    box: UpdateBox, center: UpdateCenter
) -> None:
    center.release_data(7, {PROFILE: profile_text(FIRST, without="glu")})
    center.order = UpdateOrder(7, 7, "data")
    refusals = []

    def report() -> bool:
        """Check a report of the instrument while the new profile is in force; return whether the update has ended."""
        if version(box) == FIRST:
            refusals.append(refusal(box, "glu"))
        return box.is_settled()

    box.run(until=report)
    assert center.outcomes == [(7, "returned", "words-refused")]
    assert refusals and not any(refusals), "the instrument drops a report that is refused"
    assert version(box) == SHIPPED and not refusal(box, "glu")
    assert any("data release 7 is reverted: not in the profile" in message for message in box.messages)


def test_an_unhealthy_release_is_abandoned_and_never_fetched_again(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.health = lambda _: "ports-not-served" if box.phase is UpdatePhase.DATA_TRIAL else ""
    box.run(seconds=TRIAL_SECONDS_MAX + 600)
    assert center.outcomes == [(5, "returned", "ports-not-served")]
    assert version(box) == SHIPPED and box.recorded[-1] == SHIPPED and box.started == [1]
    requests = len(center.requests)
    assert follow(box, UpdateOrder(8, 5, "data")) == (5, "refused", "failed-before")
    assert all(request.startswith("POST") for request in center.requests[requests:])


def test_a_release_with_which_the_program_crashes_is_abandoned(box: UpdateBox, center: UpdateCenter) -> None:
    starts = 0

    def crash() -> bool:
        nonlocal starts
        if box.phase is UpdatePhase.DATA_TRIAL:
            starts += 1
            box.is_killed = True
        return box.is_settled()

    box.run(until=crash)
    assert center.outcomes == [(5, "returned", "crashed")]
    assert version(box) == SHIPPED and starts == TRIAL_STARTS_MAX + 1


@pytest.mark.parametrize(
    ("order", "outcome"),
    [
        (UpdateOrder(7, 9, "data"), (9, "refused", "not-released")),
        (UpdateOrder(7, 2, "data"), (2, "refused", "not-released")),  # a release of the slots
        (UpdateOrder(7, 5, "system"), (5, "refused", "not-released")),
    ],
)
def test_an_order_without_a_matching_data_release_is_refused(
    box: UpdateBox, order: UpdateOrder, outcome: tuple[int, str, str]
) -> None:
    assert follow(box, order) == outcome
    assert version(box) == SHIPPED


def test_a_release_below_the_floor_is_refused(box: UpdateBox, center: UpdateCenter) -> None:
    center.release_data(8, {PROFILE: profile_text(SECOND)}, floor=6)
    assert follow(box, UpdateOrder(7, 8, "data")) == (8, "committed", "")
    assert follow(box, UpdateOrder(8, 5, "data")) == (5, "refused", "below-floor")
    assert follow(box, UpdateOrder(9, 2)) == (2, "committed", ""), "slots have a separate floor"
    assert version(box) == SECOND and box.started[-1] == 2


def sign_data(center: UpdateCenter, number: int, files: dict[str, bytes]) -> None:
    """Release files without the checks of the release builder."""
    assert center.signed is not None
    base, repository, keys = center.signed
    contents = {f"data/bad-{number}": render_manifest(files)}
    contents |= {f"data/files/{sha256(data).hexdigest()}": data for data in files.values()}
    added: dict[str, tuple[Path, dict[str, object]]] = {}
    for index, (name, data) in enumerate(contents.items()):
        (file := base / f"bad-{number}-{index}").write_bytes(data)
        custom = {"kind": "data", "number": number, "bytes": 1000} if index == 0 else {}
        added[name] = file, custom
        center.targets[sha256(data).hexdigest()] = data
    repository.add_all(added, keys, NOW)
    center.load()


@pytest.mark.parametrize(
    ("number", "content", "problem"),
    [
        (11, b"model = 3", "model: 3"),
        (12, b"\xff\xfe", "is not a text file in UTF-8"),
        (13, profile_text(FIRST) + b"# " + b"x" * 300_000, "at most 262144 are accepted"),
        (
            14,
            re.sub(rb"(?m)^desktop_port = .*$", b"desktop_port = 5901", profile_text(FIRST)),
            "has desktop_port 5901, which was 5900 at the start",
        ),
        (15, b"a = " + b"[" * 10_000, ""),
    ],
)
def test_a_signed_profile_that_cannot_be_used_leaves_the_old_one_in_force(
    box: UpdateBox, center: UpdateCenter, number: int, content: bytes, problem: str
) -> None:
    sign_data(center, number, {PROFILE: content})
    assert follow(box, UpdateOrder(7, number, "data")) == (number, "failed", "data-unusable")
    assert version(box) == SHIPPED and box.started == [1]
    assert any(problem in message for message in box.messages), box.messages


def test_a_file_that_arrives_damaged_is_fetched_three_times_more_and_leaves_the_old_one_in_force(
    box: UpdateBox, center: UpdateCenter
) -> None:
    digest = sha256(profile_text(FIRST, also="new")).hexdigest()
    center.targets[digest] = b"?" + center.targets[digest][1:]
    box.run()
    assert center.outcomes == [(5, "failed", "data-damaged")]
    assert version(box) == SHIPPED
    assert sum(f"{digest}/0/" in request for request in center.requests) == 4
    center.targets[digest] = profile_text(FIRST, also="new")
    assert follow(box, UpdateOrder(8, 5, "data")) == (5, "committed", "")


def test_a_truncated_manifest_is_refused(box: UpdateBox, center: UpdateCenter) -> None:
    center.change = lambda request, response: (
        Response(200, response.body[:-1]) if "/files/" in request.target else response
    )
    with pytest.raises(AssertionError, match="nothing settled"):
        box.run(seconds=3600)
    assert version(box) == SHIPPED


def test_without_disk_space_the_release_fails_before_its_files_are_fetched(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run(until=lambda: box.phase is UpdatePhase.METADATA)
    box.at_start = lambda: box.disk.backend.set_capacity(box.disk.backend.used_bytes + 8 * 1024)
    box.run()
    assert center.outcomes[0][1:] in (("refused", "no-room"), ("failed", "no-room"))
    assert version(box) == SHIPPED
    (help_file,) = HELP.values()
    assert not any(sha256(help_file).hexdigest() in request for request in center.requests)


def test_an_order_that_is_withdrawn_while_files_are_fetched_changes_nothing(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run(until=lambda: box.phase is UpdatePhase.FETCHING)
    center.order = UpdateOrder(0)
    assert box.updater is not None
    box.run()
    assert center.outcomes == [(5, "failed", "withdrawn")] and version(box) == SHIPPED


def test_files_damaged_on_the_disk_are_fetched_again_while_the_previous_release_is_in_force(
    box: UpdateBox, center: UpdateCenter
) -> None:
    box.run()
    assert follow(box, UpdateOrder(8, 6, "data")) == (6, "committed", "")
    digest = sha256(profile_text(SECOND, also="new")).hexdigest()
    box.disk.backend.flip_bits(f"transfer-{digest[:40]}.file", 1024)
    box.switch_on()
    box.run(until=lambda: version(box) == SECOND)
    assert box.loaded[-1] == FIRST, "the previous release is in force at the start"
    assert any("data release 6 cannot be used" in problem for problem in box.problems)
    box.switch_on()
    box.run(until=lambda: True)
    assert box.loaded[-1] == SECOND


def test_a_line_that_is_down_200_times_does_not_end_the_download(
    box: UpdateBox, center: UpdateCenter
) -> None:
    losses = box.lose_line_while_fetching(200)
    box.run()
    assert losses[0] <= 0, "the line was not down often enough"
    assert center.outcomes == [(5, "committed", "")]
    fetched = {request.split("/")[3] for request in center.requests if "/files/" in request}
    assert center.delta_bytes_sent == sum(len(center.targets[digest]) for digest in fetched)


@pytest.mark.slow("a data release for each operation of the disk")
@pytest.mark.parametrize("moment", get_args(Moment))
def test_a_cut_at_every_operation_leaves_the_old_or_the_new_profile(
    releases: UpdateCenter, moment: Moment
) -> None:
    """Each start after the cut uses the profile of release 5 or 6, and release 6 is committed in the end."""

    def box_with_release_5(center: UpdateCenter, seed: int) -> UpdateBox:
        box = UpdateBox(center, seed)
        box.run()
        center.steps.clear()
        center.bytes_sent = 0
        center.order = UpdateOrder(8, 6, "data")
        return box

    uninterrupted = ordered(releases)
    box = box_with_release_5(uninterrupted, 0)
    operations = operations_of(box, until=lambda: version(box) == SECOND and box.is_settled())[0]
    assert operations > 20
    for operation in range(1, operations + 1):
        center = ordered(releases)
        box = box_with_release_5(center, operation)
        loaded = len(box.loaded)
        box.cut_power_at(0, operation, moment)
        box.run(until=lambda: version(box) == SECOND and box.is_settled())  # noqa: B023
        cut = f"{moment} operation {operation}"
        assert center.outcomes == [(6, "committed", "")], cut
        assert set(box.loaded[loaded:]) <= {FIRST, SECOND}, cut
        assert set(box.started) == {1} and box.state.number == 1, cut
        assert center.bytes_sent <= uninterrupted.bytes_sent + RANGE_BYTES + METADATA_BYTES, cut
        box.switch_on()
        box.run(until=lambda: True)
        assert box.loaded[-1] == SECOND, cut


@pytest.mark.slow("a data release for each call of the program")
def test_a_program_that_is_killed_at_any_step_continues(releases: UpdateCenter) -> None:
    uninterrupted = UpdateBox(ordered(releases))
    uninterrupted.run()
    assert uninterrupted.calls > 30
    for call in range(1, uninterrupted.calls + 1):
        center = ordered(releases)
        box = UpdateBox(center)
        box.kill_at = call
        box.run()
        assert center.outcomes == [(5, "committed", "")], f"killed at call {call}"
        assert version(box) == FIRST and set(box.loaded) <= {SHIPPED, FIRST}, f"killed at call {call}"


def test_a_program_that_starts_in_the_trial_begins_with_the_new_profile(box: UpdateBox) -> None:
    box.run(until=lambda: box.phase is UpdatePhase.DATA_TRIAL and version(box) == FIRST)
    box.switch_on()
    box.run()
    assert box.loaded == [SHIPPED, FIRST] and box.center.outcomes == [(5, "committed", "")]


def test_files_of_commands_do_not_displace_data_releases(box: UpdateBox) -> None:
    box.run()
    assert follow(box, UpdateOrder(8, 6, "data")) == (6, "committed", "")
    assert box.updater is not None
    files = BoxFiles(box.disk, 64 * 1024)
    files.open()
    with pytest.raises(NoRoomError):
        files.begin(FileKey("ab" * 32, 60 * 1024), box.updater.needed_files())
    box.switch_on()
    box.run(until=lambda: True)
    assert box.loaded[-1] == SECOND and not box.problems


def test_send_intervals_follow_the_release_in_force_and_the_configuration(
    box: UpdateBox, center: UpdateCenter
) -> None:
    center.release_data(20, {"settings/sending.toml": b"heartbeat_s = 60.0\n"})
    usual = CONFIG.sending
    assert follow(box, UpdateOrder(7, 20, "data")) == (20, "committed", "")
    assert box.released is not None
    assert (box.released.timing.heartbeat_s, box.released.timing.linger_s) == (60.0, usual.linger_s)
    center.release_data(21, {"settings/sending.toml": b"heartbeat_s = 30.0\nlinger_s = 5.0\n"})
    center.order = UpdateOrder(8, 21, "data")
    box.run(until=lambda: timing(box) == (30.0, 5.0))
    box.health = lambda _: "ports-not-served" if box.phase is UpdatePhase.DATA_TRIAL else ""
    box.run(until=lambda: center.outcomes[-1][0] == 21 and box.is_settled())
    assert center.outcomes[-1] == (21, "returned", "ports-not-served")
    assert timing(box) == (60.0, usual.linger_s)


def timing(box: UpdateBox) -> tuple[float, float]:
    assert box.released is not None
    return box.released.timing.heartbeat_s, box.released.timing.linger_s
