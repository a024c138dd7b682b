"""The metadata of releases: a box accepts nothing that The Update Framework's reference implementation refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from tests.support.imaging.releases import NOW, key_file, released
from wire.pki.signature import load_private_key
from wire.release.canonical import CanonicalError, canonical
from wire.release.folder import read_releases
from wire.release.metadata import ROOT_BYTES_MAX, MetadataError, TrustedMetadata

ROLES = ("timestamp", "snapshot", "targets")


@dataclass
class Release:
    """The metadata of a folder of releases."""

    root: bytes
    parts: dict[str, bytes]


@pytest.fixture
def release(tmp_path: Path) -> Release:
    repository, _ = released(tmp_path, ("rap-1.4.0.img", "rap-1.4.1.img"))
    return read(repository.metadata)


def read(metadata: Path) -> Release:
    return Release(
        (metadata / "1.root.json").read_bytes(),
        {role: (metadata / f"{role}.json").read_bytes() for role in ROLES},
    )


def accepted(release: Release, now: datetime = NOW) -> bool:
    try:
        trusted = TrustedMetadata(release.root, now.timestamp())
        trusted.update_timestamp(release.parts["timestamp"])
        trusted.update_snapshot(release.parts["snapshot"])
        trusted.update_targets(release.parts["targets"])
        return bool(trusted.targets())
    except MetadataError:
        return False


def accepted_by_reference(release: Release, now: datetime = NOW) -> bool:
    try:
        trusted = TrustedMetadataSet(release.root, EnvelopeType.METADATA)
        trusted.reference_time = now
        trusted.update_timestamp(release.parts["timestamp"])
        trusted.update_snapshot(release.parts["snapshot"])
        return bool(trusted.update_targets(release.parts["targets"]).targets)
    except RepositoryError:
        return False


def changed(release: Release, role: str, change: Callable[[Any], object]) -> Release:
    """Return the release with one part changed after signing."""
    parts = {"root": release.root, **release.parts}
    document = json.loads(parts[role])
    change(document)
    parts[role] = json.dumps(document).encode()
    return Release(parts.pop("root"), parts)


CHANGES: dict[str, Callable[[Any], object]] = {
    "version": lambda d: d["signed"].update(version=d["signed"]["version"] + 1),
    "expires": lambda d: d["signed"].update(expires="2036-01-01T00:00:00Z"),
    "kind": lambda d: d["signed"].update(_type="root"),
    "specification": lambda d: d["signed"].update(spec_version="2.0.0"),
    "added": lambda d: d["signed"].update(more=1),
    "fraction": lambda d: d["signed"].update(version=1.5),
    "without signatures": lambda d: d.update(signatures=[]),
    "foreign signature": lambda d: d["signatures"][0].update(sig="30" + "00" * 20),
    "foreign key": lambda d: d["signatures"][0].update(keyid="0" * 64),
    "signature twice": lambda d: d["signatures"].append(d["signatures"][0]),
    "no signed part": lambda d: d.pop("signed"),
}
HARMLESS = {("root", "kind"), ("root", "foreign key"), ("root", "foreign signature")}
"""A root already has the kind "root", and two of its three signatures are sufficient."""


def test_an_untouched_release_is_accepted_by_both(release: Release) -> None:
    assert accepted(release)
    assert accepted_by_reference(release)


@pytest.mark.parametrize("role", ["root", *ROLES])
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_changed_part_is_accepted_exactly_if_the_reference_accepts_it(
    release: Release, role: str, change: str
) -> None:
    tampered = changed(release, role, CHANGES[change])
    assert accepted(tampered) == ((role, change) in HARMLESS)
    assert accepted_by_reference(tampered) == ((role, change) in HARMLESS)


@pytest.mark.parametrize("role", ["root", *ROLES])
def test_no_changed_byte_is_accepted_that_the_reference_refuses(release: Release, role: str) -> None:
    random = Random(7)
    parts = {"root": release.root, **release.parts}
    for _ in range(150):
        data = bytearray(parts[role])
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        tampered = {**parts, role: bytes(data)}
        release_changed = Release(tampered.pop("root"), tampered)
        assert accepted(release_changed) <= accepted_by_reference(release_changed)


@pytest.mark.parametrize("days", [31, 4 * 365, 6 * 365])
def test_expired_metadata_is_refused(release: Release, days: int) -> None:
    later = NOW + timedelta(days=days)
    assert not accepted(release, later)
    assert not accepted_by_reference(release, later)
    trusted = TrustedMetadata(release.root, later.timestamp())
    with pytest.raises(MetadataError, match=r"(root|timestamp): expired at .*, and it is"):
        trusted.update_timestamp(release.parts["timestamp"])


def test_older_and_mixed_metadata_is_refused(tmp_path: Path) -> None:
    repository, keys = released(tmp_path)
    old = read(repository.metadata)
    (tmp_path / "rap-1.5.0.img").write_bytes(b"new")
    repository.add(tmp_path / "rap-1.5.0.img", keys, NOW, {})
    new = read(repository.metadata)
    trusted = TrustedMetadata(new.root, NOW.timestamp())
    trusted.update_timestamp(new.parts["timestamp"])
    with pytest.raises(MetadataError, match=r"another SHA-256|at most"):
        trusted.update_snapshot(old.parts["snapshot"])
    trusted.update_snapshot(new.parts["snapshot"])
    with pytest.raises(MetadataError, match=r"another SHA-256|at most"):
        trusted.update_targets(old.parts["targets"])
    trusted.update_targets(new.parts["targets"])
    with pytest.raises(MetadataError, match="timestamp: is version 2; 3 is already known"):
        trusted.update_timestamp(old.parts["timestamp"])
    assert set(trusted.targets()) == {"rap-1.4.0.img", "rap-1.5.0.img"}


def test_a_stored_timestamp_may_have_expired_but_is_the_lower_bound(tmp_path: Path) -> None:
    repository, keys = released(tmp_path)
    stored = read(repository.metadata)
    later = NOW + timedelta(days=40)
    repository.renew(keys.online, later)
    new = read(repository.metadata)
    trusted = TrustedMetadata(stored.root, later.timestamp())
    trusted.update_timestamp(stored.parts["timestamp"], is_stored=True)
    with pytest.raises(MetadataError, match="timestamp: expired"):
        trusted.targets()
    trusted.update_timestamp(new.parts["timestamp"])
    trusted.update_snapshot(new.parts["snapshot"])
    trusted.update_targets(new.parts["targets"])
    assert trusted.targets()


def next_root(
    root: bytes, tmp_path: Path, signers: list[str], *, rotate: str = "", version: int = 2
) -> bytes:
    """Return the next root, signed by these root keys; with `rotate`, the role has a new key."""
    metadata = Metadata[Root].from_bytes(root)
    metadata.signatures.clear()
    metadata.signed.version = version
    if rotate:
        old = metadata.signed.roles[rotate].keyids[0]
        metadata.signed.revoke_key(old, rotate)
        metadata.signed.add_key(
            CryptoSigner(load_private_key(key_file(tmp_path, "other"))).public_key, rotate
        )
    for name in signers:
        metadata.sign(CryptoSigner(load_private_key(tmp_path / f"{name}.pem")), append=True)
    return metadata.to_bytes()


def test_the_next_root_needs_two_of_the_three_keys(release: Release, tmp_path: Path) -> None:
    for signers, is_sufficient in (
        (["root0"], False),
        (["root0", "root2"], True),
        (["targets", "online"], False),
    ):
        trusted = TrustedMetadata(release.root, NOW.timestamp())
        data = next_root(release.root, tmp_path, signers)
        if is_sufficient:
            trusted.update_root(data)
            assert trusted.root_version == 2
        else:
            with pytest.raises(MetadataError, match="of 2 necessary signatures are valid"):
                trusted.update_root(data)
            assert trusted.root_version == 1
    with pytest.raises(MetadataError, match="is version 3; the next one is 2"):
        TrustedMetadata(release.root, NOW.timestamp()).update_root(
            next_root(release.root, tmp_path, ["root0", "root1"], version=3)
        )


def test_one_key_under_two_names_is_one_signature(release: Release, tmp_path: Path) -> None:
    document = json.loads(next_root(release.root, tmp_path, ["root0", "root1"]))
    first = document["signatures"][0]["keyid"]
    document["signed"]["keys"]["f" * 64] = document["signed"]["keys"][first]
    document["signed"]["roles"]["root"]["keyids"].append("f" * 64)
    key = load_private_key(tmp_path / "root0.pem")
    signature = CryptoSigner(key).sign(canonical(document["signed"])).signature
    document["signatures"] = [{"keyid": first, "sig": signature}, {"keyid": "f" * 64, "sig": signature}]
    with pytest.raises(MetadataError, match="1 of 2 necessary signatures"):
        TrustedMetadata(json.dumps(document).encode(), NOW.timestamp())


def test_a_replaced_timestamp_key_ends_the_trust_in_its_versions(release: Release, tmp_path: Path) -> None:
    trusted = TrustedMetadata(release.root, NOW.timestamp())
    trusted.update_timestamp(release.parts["timestamp"])
    trusted.update_root(next_root(release.root, tmp_path, ["root0", "root1"], rotate="timestamp"))
    with pytest.raises(MetadataError, match="0 of 1 necessary signatures"):
        trusted.update_timestamp(release.parts["timestamp"])


def test_oversized_repeated_and_deep_metadata_is_refused(release: Release) -> None:
    wrong = {
        "at most": release.root + b" " * ROOT_BYTES_MAX,
        "a key is repeated": release.root.replace(b'"signed"', b'"signed":{},"signed"', 1),
        "is not signed metadata": b"[" * 5000,
    }
    for message, data in wrong.items():
        with pytest.raises(MetadataError, match=message):
            TrustedMetadata(data, NOW.timestamp())


@pytest.mark.parametrize("now", [datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)])
def test_a_file_that_is_not_the_signed_one_is_refused(tmp_path: Path, now: datetime) -> None:
    repository, _ = released(tmp_path)
    root = (repository.metadata / "1.root.json").read_bytes()
    assert list(read_releases(repository.folder, root, now.timestamp())) == ["rap-1.4.0.img"]
    file = repository.targets / "rap-1.4.0.img"
    for data in (file.read_bytes()[:-1], file.read_bytes()[:-1] + b"X"):
        file.write_bytes(data)
        with pytest.raises(MetadataError, match=r"rap-1\.4\.0\.img: has"):
            read_releases(repository.folder, root, now.timestamp())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100)
@given(VALUES)
def test_the_canonical_form_is_that_of_the_reference(value: Any) -> None:
    reference = encode_canonical(value)
    assert reference is not None
    assert canonical(value) == reference.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("value", [1.5, {1: 2}, b"bytes", [object()]])
def test_other_values_have_no_canonical_form(value: Any) -> None:
    with pytest.raises(CanonicalError):
        canonical(value)
