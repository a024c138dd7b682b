"""`rap image build`: the steps from a kickstart to a disk image and its accompanying files.

    packages    the packages of the %packages section, installed into a folder by dnf
    system      a copy of that folder, configured by the commands and %post; nothing in it differs between builds
    disk        partitions, file systems and boot loader in one sparse file
    outputs     the image, block map, software bill of materials, build record, manifest and signature

The results of the first three steps are kept in the work folder, by the hash of their inputs. The kickstart, the
repositories and this program determine everything in the image: UUIDs are derived from the hash of the kickstart, and
times from the metadata of the repositories.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen
from xml.etree import ElementTree

from imaging.build import commands, packages, partitions, sbom, system
from imaging.build.references import identifiers
from imaging.build.resume import Steps
from imaging.build.sandbox import FREE_SPACE_HINT, LogCallback, require_tools
from imaging.build.types import BuildPlan, BuildRequest, DiskIds, InvalidBuildRequest
from imaging.kickstart.data import MIB
from imaging.kickstart.document import read
from imaging.media.bmap import render as render_bmap
from imaging.media.imagefile import compress_framed, copy_mapped, make_bmap
from imaging.programs import PrerequisiteMissing
from imaging.release.slot_image import find_slot, slot_sha256
from imaging.signing import (
    ARCHITECTURE,
    ARCHITECTURE_KEY,
    TPM_KEYS,
    TPM_KEYS_KEY,
    Manifest,
    describe,
    load_private_key,
    write_manifest,
)
from settings import encrypted

FORMAT: Final = "14"
"""Incremented with every change of the builder that changes images, so that no older result is reused."""
METADATA: Final = "repodata/repomd.xml"
ENCRYPTION_FILES: Final = (
    "usr/lib/systemd/system/rap-volumes.service",
    *("usr/bin/clevis-encrypt-tpm2", "usr/sbin/cryptsetup", "usr/bin/tpm2_unseal", "usr/sbin/mkfs.ext4"),
)
"""The files with which a box can encrypt its partitions (`agents.provision.volume_machine`)."""

TPM_PROVIDERS: Final = ("usr/lib64/ossl-modules/tpm2.so", "usr/lib/*/ossl-modules/tpm2.so")
"""OpenSSL's provider for keys in a TPM (`wire.tls.tpm`), from the package tpm2-openssl."""


@dataclass(frozen=True)
class BuildResult:
    """The result of a build: the image, its SHA-256, size and mapped bytes, the number of packages, and all files."""

    image: Path
    sha256: str
    disk_bytes: int
    mapped_bytes: int
    packages: int
    files: tuple[Path, ...]


def build(request: BuildRequest, step: Callable[[str, bool], None], log: LogCallback) -> BuildResult:
    """Build a disk image.

    `step` is called with each step's name and whether its earlier result is reused; `log` is called with each line
    of output.

    Raises: UnsupportedCommand, InvalidBuildRequest, KickstartUnreadable or SigningError, for invalid input;
    PrerequisiteMissing, if this machine lacks something; BuildFailed.
    """
    plan = commands.plan_of(read(request.kickstart, request.version))
    disk_bytes = request.disk_bytes or plan.disk_bytes
    if disk_bytes < plan.disk_bytes or disk_bytes % MIB:
        raise InvalidBuildRequest(
            f"--disk-bytes {disk_bytes}: give at least {plan.disk_bytes:,}, which the partitions need, and a whole "
            "number of MiB"
        )
    key = load_private_key(request.key) if request.key else None
    metadata = [_metadata(repository) for repository in request.repositories]
    require_tools()
    epoch = _epoch(metadata)
    text = f"{plan!r} {plan.packages}".encode()  # includes are resolved, and no path is part of it
    seed = hashlib.sha256(text).hexdigest()
    ids = partitions.disk_ids(plan, seed)
    try:
        with Steps(request.work, step) as steps:
            inputs = hashlib.sha256(b"".join(metadata)).hexdigest()
            first = steps.step(
                "packages",
                f"{FORMAT} {inputs} {plan.packages} {plan.implied}",
                lambda to: _packages(to, plan, request, epoch, log),
            )
            second = steps.step(
                "system", f"{seed} {epoch}", lambda to: _system(first / "tree", to, plan, ids, epoch, log)
            )
            third = steps.step(
                "disk",
                f"{disk_bytes}",
                lambda to: _disk(second / "tree", to, plan, disk_bytes, seed, epoch, log),
            )
            step("outputs", False)
            return _write_outputs(third / "disk.raw", second / "tree", request, plan, ids, epoch, key, log)
    except (FileExistsError, NotADirectoryError) as error:
        raise InvalidBuildRequest(
            f"{error.filename}: is not a folder; give folders with --output and --work"
        ) from None
    except OSError as error:
        raise PrerequisiteMissing(
            f"{error.filename or request.work}: {error.strerror}; {FREE_SPACE_HINT}"
        ) from error


def _packages(folder: Path, plan: BuildPlan, request: BuildRequest, epoch: int, log: LogCallback) -> None:
    (tree := folder / "tree").mkdir()
    packages.install(tree, plan.packages, plan.implied, request.repositories, epoch, log)


def _system(
    packages_tree: Path, folder: Path, plan: BuildPlan, ids: DiskIds, epoch: int, log: LogCallback
) -> None:
    system.copy(packages_tree, folder / "tree", log)
    system.configure(folder / "tree", plan, ids, epoch, log)


def _disk(
    tree: Path, folder: Path, plan: BuildPlan, disk_bytes: int, seed: str, epoch: int, log: LogCallback
) -> None:
    partitions.make_disk(folder / "disk.raw", tree, plan, disk_bytes, seed, epoch, log)


def _write_outputs(
    disk: Path,
    tree: Path,
    request: BuildRequest,
    plan: BuildPlan,
    ids: DiskIds,
    epoch: int,
    key: Any,
    log: LogCallback,
) -> BuildResult:
    """Write the image and its accompanying files into the output folder."""
    name = request.kickstart.stem
    request.out.mkdir(parents=True, exist_ok=True)
    image = request.out / f"{name}.raw"
    part = request.out / f".{name}.raw.part"
    try:
        copy_mapped(disk, part)
        part.replace(image)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PrerequisiteMissing(f"{request.out}: the disk is full; {FREE_SPACE_HINT}") from error
        raise
    finally:
        part.unlink(missing_ok=True)
    bmap = make_bmap(image)
    (packed := request.out / f"{name}.raw.zst").unlink(missing_ok=True)
    if request.compress:
        compress_framed(image, bmap, packed)
    listed = packages.installed(tree, log)
    described = describe(image)
    contents = {
        f"{name}.bmap": render_bmap(bmap),
        f"{name}.ks": request.kickstart.read_bytes(),
        f"{name}.spdx.json": sbom.render(name, described.sha256, listed, tree, epoch).encode(),
        f"{name}.build.json": _record(request, plan, listed, epoch, image, bmap.image_bytes).encode(),
    }
    for file, data in contents.items():
        (request.out / file).write_bytes(data)
    others = [*([packed] if request.compress else []), *(request.out / file for file in contents)]
    files = [described, *map(describe, others)]
    about = {"kickstart": request.kickstart.name, "version": request.version, "epoch": str(epoch)}
    about |= {ARCHITECTURE_KEY: ARCHITECTURE, **abilities(tree)}
    manifest = request.out / f"{name}.manifest.json"
    if key:
        placed = partitions.place_partitions(plan, bmap.image_bytes)
        systems, parts = identifiers(image, tree, placed, ids)
        described_image = Manifest(
            name=name, files=files, about=about, file_systems=systems, partitions=parts
        )
        write_manifest(described_image, manifest, key)
    written = (image, *others, *([manifest] if key else []))
    return BuildResult(image, described.sha256, bmap.image_bytes, bmap.mapped_bytes, len(listed), written)


def abilities(tree: Path) -> dict[str, str]:
    """Return what boxes with the system in `tree` can do, as entries of a manifest's `about`."""
    entries = {}
    if all((tree / path).exists() for path in ENCRYPTION_FILES):
        entries[encrypted.MANIFEST_KEY] = encrypted.AT_FIRST_START
    if any(any(tree.glob(pattern)) for pattern in TPM_PROVIDERS):
        entries[TPM_KEYS_KEY] = TPM_KEYS
    return entries


def _record(
    request: BuildRequest,
    plan: BuildPlan,
    listed: Sequence[packages.InstalledPackage],
    epoch: int,
    image: Path,
    disk_bytes: int,
) -> str:
    """Return the build record as JSON; nothing in it depends on the building machine."""
    slot = find_slot(image)
    record = {
        "format": f"rap-image-build-{FORMAT}",
        "kickstart_sha256": hashlib.sha256(request.kickstart.read_bytes()).hexdigest(),
        "version": request.version,
        "epoch": epoch,
        "partitions": [
            {
                **asdict(one.partition),
                "number": one.number,
                "offset": one.offset,
                "length": one.length,
            }
            for one in partitions.place_partitions(plan, disk_bytes)
        ],
        "slot": {"bytes": slot.length, "sha256": slot_sha256(image, slot)} if slot else None,
        "not_for_an_image": plan.ignored,
        "packages": [asdict(package) for package in listed],
    }
    return json.dumps(record, indent=1) + "\n"


def _metadata(repository: str) -> bytes:
    """Read the index of a repository. Raises: InvalidBuildRequest."""
    try:
        data = _fetch(f"{repository.rstrip('/')}/{METADATA}")
        ElementTree.fromstring(data)  # noqa: S314 - dnf reads the same file
    except (OSError, ElementTree.ParseError) as error:
        raise InvalidBuildRequest(
            f"--repo {repository}: is not a repository: {METADATA} cannot be read ({error}); "
            "create it with createrepo_c"
        ) from None
    return data


def _fetch(address: str) -> bytes:
    if "://" not in address:
        return Path(address).read_bytes()
    with urlopen(address, timeout=30) as response:  # noqa: S310 - the user's own address
        return bytes(response.read())


def _epoch(metadata: Sequence[bytes]) -> int:
    """Return the time of the image: SOURCE_DATE_EPOCH, or the newest repository's time, in seconds since 1970.

    Raises: InvalidBuildRequest.
    """
    if value := os.environ.get("SOURCE_DATE_EPOCH"):
        if not value.isdecimal():
            raise InvalidBuildRequest(
                f"SOURCE_DATE_EPOCH={value}: is not a whole number of seconds since 1970; correct or unset it"
            )
        return int(value)
    stamps = [0]
    for index in metadata:
        root = ElementTree.fromstring(index)  # noqa: S314 - dnf reads the same file
        texts = [
            element.text or "" for element in root.iter() if element.tag.endswith(("}revision", "}timestamp"))
        ]
        stamps += [int(text.partition(".")[0]) for text in texts if text.partition(".")[0].isdecimal()]
    return max(stamp for stamp in stamps if stamp < 2**32)
