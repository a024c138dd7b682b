"""Flash jobs on disks in memory: the written identity, the record, and later changes to the identity on the disk."""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from imaging.disks.machine import Device
from imaging.flash import record
from imaging.flash.job import FlashRefused, IdentityOnDisk, Interrupted, Job, key_sha256
from imaging.flash.plan import identity_slice, make_plan
from imaging.flash.source import Image, open_image
from imaging.flash.target import DeviceError
from imaging.kickstart.site import for_box, load_site
from imaging.media.imagefile import ImageError
from settings import identity_archive as archive
from settings.identity_archive import unpack
from tests.support.imaging.flash.gpt_tables import with_label
from tests.support.imaging.flash.images import (
    IMAGE_BYTES,
    MIB,
    SITE,
    MemoryDisk,
    public_key,
    rap,
    raw_image,
    sign,
)
from wire.pki.directory import certify

DISK_BYTES = IMAGE_BYTES + 3 * MIB
DISK = Device(name="sdz", kind="disk", number="8:0", bytes=DISK_BYTES, model="Stick", serial="S-1", bus="usb")
IDENTITY_FILES = {
    *("serial", "site.toml", "box.key", "box.csr", "box.crt", "vendor-ca.crt", "datacenter-root.crt")
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an image, a site and a PKI."""
    folder = tmp_path_factory.mktemp("desk")
    sign(raw_image(folder / "box.raw"))
    (folder / "site.toml").write_text(SITE)
    rap("pki", "init", folder / "pki")
    rap("pki", "issue", folder / "pki", "RAP-0007", "--for", "box")
    return folder


@pytest.fixture(scope="module")
def image(desk: Path) -> Iterator[Image]:
    file = desk / "box.raw"
    with open_image(file, public_key(file)) as opened:
        yield opened


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk(bytes(DISK_BYTES))


def ignore(_phase: str, _bytes: int) -> None:
    """Ignore the progress."""


def job(image: Image, disk: MemoryDisk) -> Job:
    return Job(image, public_key(image.path), DISK, disk)


def flashed(image: Image, disk: MemoryDisk, desk: Path, **more: Any) -> record.FlashRecord:
    """Flash a disk with an identity for RAP-0001."""
    flash_job = job(image, disk)
    flash_job.give_identity("RAP-0001", desk / "site.toml", **({"pki": None, "resume": False} | more))
    return flash_job.run(more.get("resume", False), ignore)


def identity(disk: MemoryDisk) -> dict[str, bytes]:
    return unpack(bytes(disk.content[2 * MIB : 3 * MIB]))


# -- writing


def test_the_record_names_the_image_the_disk_the_key_and_everything_written(
    image: Image, disk: MemoryDisk, desk: Path
) -> None:
    seen: Counter[str] = Counter()
    flash_job = job(image, disk)
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    written = flash_job.run(False, lambda phase, count: seen.update({phase: count}))
    assert seen == dict.fromkeys(("writing", "reading back"), flash_job.total_bytes)
    written_at = datetime.datetime.fromisoformat(written.written_at)
    assert before <= written_at <= datetime.datetime.now(datetime.UTC)
    assert written_at.utcoffset() == datetime.timedelta(0)
    assert 0 < written.seconds == round(written.seconds, 3) < 600
    assert (written.image, written.about) == ("box.raw", {"release": "test"})
    assert written.manifest_sha256 == hashlib.sha256((desk / "box.manifest.json").read_bytes()).hexdigest()
    der = public_key(image.path).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert written.signed_by_sha256 == key_sha256(public_key(image.path)) == hashlib.sha256(der).hexdigest()
    assert written.disk == record.FlashedDisk(model="Stick", serial="S-1", bus="usb", bytes=DISK_BYTES)
    assert (written.box, written.certificate_sha256) == ("", "")
    assert [part.label for part in written.parts] == ["esp", "rap-identity", "root-a", "var"]
    assert written.sha256 == record.summary(written.spans)
    assert [span.offset for span in written.spans] == sorted(span.offset for span in written.spans)
    assert written.spans[0].offset == 0
    assert written.spans[-1].offset + written.spans[-1].length == DISK_BYTES
    for span in written.spans:
        content = disk.content[span.offset : span.offset + span.length]
        assert hashlib.sha256(content).hexdigest() == span.sha256


def test_the_record_names_the_box_and_its_certificate(image: Image, disk: MemoryDisk, desk: Path) -> None:
    written = flashed(image, disk, desk)
    assert (written.box, written.certificate_sha256) == ("RAP-0001", "")
    written = flashed(image, disk, desk, pki=desk / "pki")
    files = identity(disk)
    assert files.keys() == IDENTITY_FILES
    assert written.certificate_sha256 == hashlib.sha256(files[archive.CERTIFICATE]).hexdigest()


def test_an_identity_has_the_site_for_a_box_and_a_request_for_its_key(
    image: Image, disk: MemoryDisk, desk: Path
) -> None:
    flash_job = job(image, disk)
    flash_job.give_identity("RAP-0001", desk / "site.toml", None, False)
    flash_job.run(False, ignore)
    files = identity(disk)
    assert files[archive.SITE].decode() == for_box(load_site(desk / "site.toml"))
    request = x509.load_pem_x509_csr(flash_job.request())
    key = serialization.load_pem_private_key(files[archive.KEY], None)
    assert request.public_key() == key.public_key()
    assert request.is_signature_valid
    assert isinstance(request.signature_hash_algorithm, hashes.SHA256)
    assert request.subject.rfc4514_string() == "CN=RAP-0001"
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert names.value.get_values_for_type(x509.DNSName) == ["rap-0001"]
    assert not names.critical, "it may be critical only without a subject (RFC 5280, section 4.2.1.6)"


def test_resuming_keeps_the_key_of_the_same_box_and_starting_again_makes_another(
    image: Image, disk: MemoryDisk, desk: Path
) -> None:
    flashed(image, disk, desk)
    before = identity(disk)
    flashed(image, disk, desk, resume=True)
    assert identity(disk) == before
    flashed(image, disk, desk)
    assert identity(disk)[archive.KEY] != before[archive.KEY]


def test_resuming_on_a_disk_without_an_identity_makes_one(image: Image, disk: MemoryDisk, desk: Path) -> None:
    flashed(image, disk, desk, resume=True)
    assert identity(disk)[archive.SERIAL] == b"RAP-0001\n"


@pytest.mark.parametrize(
    ("box", "site", "pki", "problem"),
    [
        ("rap 1", "site.toml", None, "such as RAP-0001"),
        ("RAP-0001", "nonesuch.toml", None, "nonesuch.toml"),
        ("RAP-0001", "site.toml", "nonesuch", "nonesuch"),
        ("RAP-0007", "site.toml", "site.toml", "site.toml"),
    ],
)
def test_an_identity_that_cannot_be_made_is_refused_and_nothing_is_written(
    image: Image, disk: MemoryDisk, desk: Path, box: str, site: str, pki: str | None, problem: str
) -> None:
    with pytest.raises(FlashRefused, match=problem):
        job(image, disk).give_identity(box, desk / site, desk / pki if pki else None, False)
    assert disk.trace == []


def test_a_disk_that_fails_interrupts_the_flash_and_its_error_is_the_cause(
    image: Image, disk: MemoryDisk
) -> None:
    flash_job = job(image, disk)
    disk.removed_after_writes = 3
    with pytest.raises(Interrupted, match="the disk was removed") as caught:
        flash_job.run(False, ignore)
    assert isinstance(caught.value.__cause__, DeviceError)


def test_a_disk_without_space_for_the_partitions_is_refused(image: Image) -> None:
    with pytest.raises(FlashRefused, match=r"box\.raw: has partitions that leave no space"):
        job(image, MemoryDisk(bytes(IMAGE_BYTES - MIB)))


# -- the partition of the identity


def test_an_identity_may_fill_its_partition_and_no_more(image: Image) -> None:
    assert any(len(p.data) == MIB for p in make_plan(image, DISK_BYTES, b"x" * MIB).pieces)
    with pytest.raises(ImageError, match=f"has {MIB} bytes, but this identity has {MIB + 512}"):
        make_plan(image, DISK_BYTES, b"x" * (MIB + 512))


def test_a_partition_without_that_label_is_no_identity(image: Image) -> None:
    slices = make_plan(image, DISK_BYTES).slices
    identity_part = identity_slice(slices)
    assert identity_part is not None
    assert (identity_part.offset, identity_part.length) == (2 * MIB, MIB)
    assert identity_slice([part for part in slices if part != identity_part]) is None


# -- afterwards


def test_the_identity_on_a_disk_has_the_box_and_its_request(
    image: Image, disk: MemoryDisk, desk: Path
) -> None:
    flashed(image, disk, desk)
    on_disk = IdentityOnDisk(disk)
    assert on_disk.box == "RAP-0001"
    assert x509.load_pem_x509_csr(on_disk.request()).subject.rfc4514_string() == "CN=RAP-0001"


def test_a_certificate_is_issued_onto_the_disk_durably(image: Image, disk: MemoryDisk, desk: Path) -> None:
    flashed(image, disk, desk)
    before = bytes(disk.content)
    IdentityOnDisk(disk).issue(desk / "pki")
    files = identity(disk)
    assert files.keys() == IDENTITY_FILES
    certificate = x509.load_pem_x509_certificates(files[archive.CERTIFICATE])[0]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert certificate.subject.rfc4514_string() == "CN=RAP-0001"
    assert names.get_values_for_type(x509.DNSName) == ["rap-0001"]
    assert files[archive.VENDOR_AUTHORITY] == (desk / "pki/vendor-ca.crt").read_bytes()
    assert files[archive.DATACENTER_AUTHORITY] == (desk / "pki/datacenter-root.crt").read_bytes()
    assert disk.trace[-1] is None, "the certificate was not flushed"
    assert disk.content[: 2 * MIB] == before[: 2 * MIB]
    assert disk.content[3 * MIB :] == before[3 * MIB :]


def test_a_certificate_of_another_pki_needs_the_authorities_that_the_box_trusts(
    image: Image, disk: MemoryDisk, desk: Path, tmp_path: Path
) -> None:
    flashed(image, disk, desk)
    on_disk = IdentityOnDisk(disk)
    request, certificate = tmp_path / "it.csr", tmp_path / "pki/rap-0001.crt"
    request.write_bytes(on_disk.request())
    rap("pki", "init", tmp_path / "pki")
    rap("pki", "issue", tmp_path / "pki", "RAP-0001", "--for", "box", "--csr", request)
    vendor, root = tmp_path / "pki/vendor-ca.crt", tmp_path / "pki/datacenter-root.crt"
    for incomplete in ({}, {archive.VENDOR_AUTHORITY: vendor}, {archive.DATACENTER_AUTHORITY: root}):
        with pytest.raises(FlashRefused, match="give --vendor-ca and --datacenter-root"):
            on_disk.add_certificate(certificate, incomplete)
    with pytest.raises(FlashRefused, match=r"it\.csr: is not a certificate in PEM"):
        on_disk.add_certificate(certificate, {archive.VENDOR_AUTHORITY: request})
    with pytest.raises(FlashRefused, match=r"rap-0007\.crt: is not for the key on this disk.*RAP-0001"):
        on_disk.add_certificate(desk / "pki/rap-0007.crt", {})
    both = {archive.VENDOR_AUTHORITY: vendor, archive.DATACENTER_AUTHORITY: root}
    on_disk.add_certificate(certificate, both)
    assert identity(disk) == {
        **identity(disk),
        archive.CERTIFICATE: certificate.read_bytes(),
        archive.VENDOR_AUTHORITY: vendor.read_bytes(),
        archive.DATACENTER_AUTHORITY: root.read_bytes(),
    }
    IdentityOnDisk(disk).add_certificate(certificate, {})  # the authorities are on the disk now


def test_a_certificate_for_another_name_is_refused(
    image: Image, disk: MemoryDisk, desk: Path, tmp_path: Path
) -> None:
    flashed(image, disk, desk)
    key = x509.load_pem_x509_csr(identity(disk)[archive.REQUEST]).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    chain, _, _ = certify(desk / "pki", "RAP-0002", "box", key)
    (tmp_path / "it.crt").write_bytes(chain)
    with pytest.raises(FlashRefused, match=r"it\.crt: is for RAP-0002; this disk belongs to RAP-0001"):
        IdentityOnDisk(disk).add_certificate(tmp_path / "it.crt", {})


def test_a_certificate_that_cannot_be_issued_is_refused(image: Image, disk: MemoryDisk, desk: Path) -> None:
    flashed(image, disk, desk)
    trace = len(disk.trace)
    with pytest.raises(FlashRefused, match=r"nonesuch"):
        IdentityOnDisk(disk).issue(desk / "nonesuch")
    assert len(disk.trace) == trace


class Forgetful(MemoryDisk):
    """Discards all writes without an error."""

    def write(self, offset: int, data: memoryview) -> None:
        self.trace.append((offset, bytes(data)))


def test_a_certificate_that_the_disk_does_not_store_is_detected(
    image: Image, disk: MemoryDisk, desk: Path
) -> None:
    flashed(image, disk, desk)
    with pytest.raises(FlashRefused, match="use another disk"):
        IdentityOnDisk(Forgetful(bytes(disk.content))).issue(desk / "pki")


def test_a_certificate_chain_that_does_not_fit_the_partition_is_refused(
    image: Image, disk: MemoryDisk, desk: Path, tmp_path: Path
) -> None:
    flashed(image, disk, desk, pki=desk / "pki")
    on_disk, chain, before = IdentityOnDisk(disk), tmp_path / "it.crt", bytes(disk.content)
    issued = identity(disk)[archive.CERTIFICATE]
    chain.write_bytes(issued + b"#" * MIB)
    with pytest.raises(FlashRefused, match=f"its partition has only {MIB}"):
        on_disk.add_certificate(chain, {})
    assert disk.content == before
    chain.write_bytes(issued + b"#" * (MIB - 50_000))
    on_disk.add_certificate(chain, {})
    assert identity(disk)[archive.CERTIFICATE] == chain.read_bytes()


def test_a_disk_without_an_identity_is_refused_with_the_reason(image: Image, disk: MemoryDisk) -> None:
    with pytest.raises(FlashRefused, match="the disk has no GUID partition table"):
        IdentityOnDisk(disk)
    job(image, disk).run(False, ignore)
    with pytest.raises(FlashRefused, match="none was written, or the box has already imported it"):
        IdentityOnDisk(disk)


def test_a_disk_of_another_image_has_no_identity_partition(image: Image, disk: MemoryDisk) -> None:
    head = make_plan(image, DISK_BYTES).head
    disk.content[: len(head)] = with_label(head, "rap-identity", "other".encode("utf-16-le"))
    with pytest.raises(FlashRefused, match="was not flashed with an image of the box"):
        IdentityOnDisk(disk)
