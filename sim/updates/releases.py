"""The releases that a lab's data center orders: a folder with slots' deltas and profiles, signed as real ones are.

ECDSA signatures are random and vary in length. So that a run depends only on its lab file and seed, each is repeated
until it has the most frequent length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final, cast, get_args

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from imaging.release.delta_file import block_delta
from settings.profile import DIRECTORY, Model, load_profile
from sim.faults.box.update import OrderedRelease, ProfileRelease, ReleaseHealth
from wire.release.canonical import canonical
from wire.release.data import render_manifest
from wire.release.delta import BLOCK_BYTES
from wire.release.messages import Kind

SLOT_BYTES: Final = 4 * 1024 * 1024
CHANGED_BYTES: Final = 2 * 1024 * 1024
"""Incompressible bytes that differ between two releases: about the size of the delta."""
PROFILES: Final = get_args(ProfileRelease)
APPLICATIONS: Final[dict[OrderedRelease, ReleaseHealth]] = {
    "application": "healthy",
    "unhealthy-application": "unhealthy",
    "unstartable-application": "unstartable",
}
APPLICATION_BYTES: Final = 4096
"""Bytes that differ between two releases of the application."""
_SIGNATURE_BYTES: Final = 71
_LIFETIME: Final = timedelta(days=365)


class LabReleases:
    """The releases of a lab, numbered from 1, the release with which the box starts."""

    def __init__(
        self,
        folder: Path,
        orders: Sequence[OrderedRelease],
        models: Collection[Model],
        now_s: float,
    ) -> None:
        """`orders` are the ordered releases, in order and numbered from 2; `models` are the models of the lab."""
        self.folder = folder
        self.health: dict[int, ReleaseHealth] = {1: "healthy"}
        self.slots = {1: _slot(1)}
        """The slot contents by release number; like `health`, without data releases."""
        (folder / "targets").mkdir(parents=True)
        (folder / "metadata").mkdir()
        self.applications: set[int] = set()
        """The releases that change only the application."""
        running, targets = 1, dict[str, Any]()
        for number, order in enumerate(orders, 2):
            if order in PROFILES:
                targets |= self._add_profiles(number, cast(ProfileRelease, order), models)
                continue
            if order in APPLICATIONS:
                self.applications.add(number)
                self.slots[number] = _application(self.slots[running], number)
            else:
                self.slots[number] = _slot(number)
            self.health[number] = health = APPLICATIONS.get(order) or cast(ReleaseHealth, order)
            targets |= self._add(running, number)
            if health == "healthy":
                running = number
        self._sign(targets, datetime.fromtimestamp(now_s, UTC) + _LIFETIME)

    @property
    def root(self) -> Path:
        """The file of the root metadata, as shipped with the software."""
        return self.folder / "metadata" / "1.root.json"

    def kind(self, number: int) -> Kind:
        """Return the kind of a release."""
        if number in self.applications:
            return "application"
        return "system" if number in self.health else "data"

    def in_slot(self, content: bytes) -> int | None:
        """Return the number of the release that a slot contains completely; None if there is none."""
        return next((number for number, slot in self.slots.items() if slot == content), None)

    def _add(self, source: int, target: int) -> dict[str, Any]:
        old, new = self.slots[source], self.slots[target]
        delta = block_delta(old, new)
        properties: dict[str, Any] = {
            "release": f"1.{target}.0",
            "number": target,
            "source": sha256(old).hexdigest(),
            "target": sha256(new).hexdigest(),
            "bytes": len(new),
        }
        if target in self.applications:
            properties |= {"kind": "application", "application": True}
        return self._target(f"{source}-{target}", delta, properties)

    def _add_profiles(self, number: int, which: ProfileRelease, models: Collection[Model]) -> dict[str, Any]:
        files = profile_release(models, number, which)
        total = sum(map(len, files.values()))
        properties = {"release": f"profiles-{number}", "number": number, "kind": "data", "bytes": total}
        targets = self._target(f"data/profiles-{number}", render_manifest(files), properties)
        for content in files.values():
            targets |= self._target(f"data/files/{sha256(content).hexdigest()}", content, {})
        return targets

    def _target(self, name: str, content: bytes, custom: dict[str, Any]) -> dict[str, Any]:
        file = self.folder / "targets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        hashes = {"sha256": sha256(content).hexdigest()}
        return {name: {"length": len(content), "hashes": hashes, "custom": custom}}

    def _sign(self, targets: dict[str, Any], expires: datetime) -> None:
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        texts = [
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            for key in keys
        ]
        roles = {
            "root": {"keyids": ["0", "1", "2"], "threshold": 2},
            **{role: {"keyids": ["0"], "threshold": 1} for role in ("targets", "snapshot", "timestamp")},
        }
        keys_by_id = {
            str(number): {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": text}}
            for number, text in enumerate(texts)
        }

        def write(role: str, file: str, content: dict[str, Any], signers: int = 1) -> dict[str, Any]:
            signed = {
                "_type": role,
                "spec_version": "1.0.31",
                "version": 1,
                "expires": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
                **content,
            }
            signatures = [
                {"keyid": str(number), "sig": _signature(keys[number], canonical(signed))}
                for number in range(signers)
            ]
            data = json.dumps({"signatures": signatures, "signed": signed}).encode()
            (self.folder / "metadata" / file).write_bytes(data)
            return {"version": 1, "length": len(data), "hashes": {"sha256": sha256(data).hexdigest()}}

        write(
            "root",
            "1.root.json",
            {"consistent_snapshot": False, "keys": keys_by_id, "roles": roles},
            signers=2,
        )
        description = write("targets", "targets.json", {"targets": targets})
        description = write("snapshot", "snapshot.json", {"meta": {"targets.json": description}})
        write("timestamp", "timestamp.json", {"meta": {"snapshot.json": description}})


def _slot(number: int) -> bytes:
    common, own = Random(0), Random(number)
    same = common.randbytes(SLOT_BYTES - CHANGED_BYTES - BLOCK_BYTES)
    return own.randbytes(BLOCK_BYTES) + same + own.randbytes(CHANGED_BYTES)


def _application(before: bytes, number: int) -> bytes:
    """Return a slot that differs only in its last bytes."""
    return before[:-APPLICATION_BYTES] + Random(number).randbytes(APPLICATION_BYTES)


def profile_release(models: Collection[Model], number: int, which: ProfileRelease) -> dict[str, bytes]:
    """Return the files of a data release, by path: versions of the profiles of these models, and their help files."""
    distinct = sorted(set(models))
    profiles = {f"profiles/{model}.toml": _profile(model, number, which) for model in distinct}
    return profiles | {f"help/{model}/help.txt": f"Help for {model}.\n".encode() * 100 for model in distinct}


def _profile(model: Model, number: int, which: ProfileRelease) -> bytes:
    """Return a version of the shipped profile that is higher by `number`."""
    text = (DIRECTORY / f"{model}.toml").read_text()
    text = re.sub("^version = .*$", f"version = {load_profile(model).version + number}", text, flags=re.M)
    text = text.replace("[assays]\n", f'[assays]\nassay-{number} = "Assay {number}"\n')
    if which == "narrow-profiles":
        text = re.sub(r"^\[channels\]\n.*\n", "[channels]\n", text, flags=re.M)
    elif which == "unusable-profiles":
        text = text.replace("[assays]\n", "[assays]\nUnusable = 3\n")
    return text.encode()


def _signature(key: ec.EllipticCurvePrivateKey, message: bytes) -> str:
    while len(signature := key.sign(message, ec.ECDSA(SHA256()))) != _SIGNATURE_BYTES:
        pass
    return signature.hex()
