"""Delivered profiles: the newest profile with the vendor's signature is in force."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agents.box.configuration.config import Profiles
from agents.box.released.profiles import PROFILE_BYTES_MAX, InstrumentProfiles, profiles_in_force
from agents.box.state import BoxState
from settings.profile import DIRECTORY, Profile, load_profile, parse_profile
from tests.support.agents.update_box import CONFIG, INSTRUMENT, profile_text
from wire.pki.signature import new_key_pair, sign
from wire.release.data import NO_DATA, DataContent

SHIPPED = (DIRECTORY / "chemistry-analyzer.toml").read_bytes()
VERSION = load_profile("chemistry-analyzer").version


@pytest.fixture
def delivered(tmp_path: Path) -> Profiles:
    private, public = new_key_pair()
    (tmp_path / "signing.key").write_bytes(private)
    (tmp_path / "signing.pub").write_bytes(public)
    (tmp_path / "profiles").mkdir()
    return Profiles(directory=tmp_path / "profiles", key=tmp_path / "signing.pub")


def deliver(delivered: Profiles, version: int, model: str = "chemistry-analyzer") -> Path:
    text = SHIPPED.replace(b"version = %d" % VERSION, b"version = %d" % version)
    file = delivered.directory / f"{model}.toml"
    text = text.replace(b"chemistry-analyzer", model.encode(), 1)
    file.write_bytes(sign(text, delivered.key.with_suffix(".key")))
    return file


def version_in_force(delivered: Profiles | None) -> tuple[int, list[str]]:
    profiles, ignored = profiles_in_force(["chemistry-analyzer"], delivered)
    return profiles["chemistry-analyzer"].version, ignored


def test_without_delivered_profiles_those_of_the_program_are_in_force() -> None:
    assert version_in_force(None) == (VERSION, [])


def test_a_newer_signed_profile_replaces_the_one_of_the_program(delivered: Profiles) -> None:
    deliver(delivered, VERSION + 1)
    assert version_in_force(delivered) == (VERSION + 1, [])


def test_a_profile_of_a_new_model_is_added(delivered: Profiles) -> None:
    deliver(delivered, 1, "coagulation-analyzer")
    assert "coagulation-analyzer" in profiles_in_force(["coagulation-analyzer"], delivered)[0]


def test_an_older_profile_is_not_used(delivered: Profiles) -> None:
    deliver(delivered, VERSION - 1)
    assert version_in_force(delivered) == (VERSION, [])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace(b"Glucose", b"Glucosa"), "was changed"),
        (lambda _: SHIPPED, "has no signature"),
        (lambda _: b"\xff", "has no signature"),
        (lambda text: text * (PROFILE_BYTES_MAX // len(text) + 1), "larger than"),
    ],
)
def test_a_profile_that_is_not_the_vendors_is_ignored_and_named(delivered, spoil, message) -> None:  # type: ignore[no-untyped-def]
    file = deliver(delivered, VERSION + 1)
    file.write_bytes(spoil(file.read_bytes()))
    version, ignored = version_in_force(delivered)
    assert version == VERSION
    assert "chemistry-analyzer.toml" in ignored[0]
    assert message in ignored[0]


def test_a_signed_profile_with_a_mistake_is_ignored_and_explained(delivered: Profiles) -> None:
    text = SHIPPED.replace(b"version = %d" % VERSION, b"version = %d" % (VERSION + 1)).replace(
        b'"critical"', b'"fatal"'
    )
    file = delivered.directory / "chemistry-analyzer.toml"
    file.write_bytes(sign(text, delivered.key.with_suffix(".key")))
    version, ignored = version_in_force(delivered)
    assert version == VERSION
    assert "must be one of info, warning, error, critical" in ignored[0]


def test_without_the_key_no_delivered_profile_is_used(delivered: Profiles) -> None:
    deliver(delivered, VERSION + 1)
    delivered.key.unlink()
    version, ignored = version_in_force(delivered)
    assert version == VERSION
    assert "signing.pub" in ignored[0]


def test_serving_of_an_instrument_restarts_only_when_its_profile_changes() -> None:
    """The parser of an instrument without an agent depends on the profile, and so must be restarted."""
    model = "chemistry-analyzer"
    profiles, served = InstrumentProfiles(CONFIG), list[int]()
    newer = parse_profile(profile_text(VERSION + 1).decode(), Path(f"{model}.toml"))
    narrow = parse_profile(profile_text(VERSION + 2, without="glu").decode(), Path(f"{model}.toml"))

    async def serve() -> None:
        served.append(profiles.allowed[INSTRUMENT].profile.version)
        await asyncio.Event().wait()

    async def record(_serial: str, _profile: Profile, _port: int) -> None:
        pass

    async def run() -> None:
        await profiles.record_changes(record, BoxState())
        serving = asyncio.create_task(profiles.while_unchanged(INSTRUMENT, serve))
        for content, on_trial, expected in (
            (NO_DATA, False, [VERSION]),
            (DataContent({model: newer}), True, [VERSION, VERSION + 1]),
            (DataContent({model: newer}), False, [VERSION, VERSION + 1]),
            (DataContent({model: narrow}), True, [VERSION, VERSION + 1, VERSION + 2]),
            (DataContent({model: newer}), False, [VERSION, VERSION + 1, VERSION + 2, VERSION + 1]),
        ):
            await profiles.use(content, on_trial=on_trial)
            for _ in range(20):  # iterations of the event loop
                await asyncio.sleep(0)
            assert served == expected
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    asyncio.run(run())
