"""The keys of remote sessions in a lab, the box's settings of them, and the audit files of both ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from agents.box.config import SessionSettings
from sim.lab.labfile import Lab
from sim.lab.sessions import desktop_of
from sim.verdict.sessions import SessionAudits, lab_time_ms
from sim.worlds.shared.addresses import BOX_SERIAL, DATACENTER_DOOR, DATACENTER_PORT
from wire.session.cose import Keys, key_set


@dataclass(frozen=True)
class SessionKeys:
    """The keys with which both ends sign, in files."""

    datacenter: EllipticCurvePrivateKey
    box: EllipticCurvePrivateKey
    folder: Path
    """Where the files are."""

    @classmethod
    def make(cls, folder: Path) -> SessionKeys:
        """Make new keys, and the files of both ends."""
        folder.mkdir(exist_ok=True)
        keys = cls(generate_private_key(SECP256R1()), generate_private_key(SECP256R1()), folder)
        keys.box_keys_folder.mkdir()
        for file, key in (
            (keys.offers, keys.datacenter),
            (keys.box_keys_folder / f"{BOX_SERIAL}.pem", keys.box),
        ):
            file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        for file, key in ((keys.offer_key, keys.datacenter), (keys.box_key, keys.box)):
            file.touch(0o600)
            file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return keys

    @property
    def offers(self) -> Path:
        """The data center's public key, for the box."""
        return self.folder / "session-offers.pem"

    @property
    def offer_key(self) -> Path:
        """The data center's private key."""
        return self.folder / "session-offers.key"

    @property
    def box_key(self) -> Path:
        """The box's private key."""
        return self.folder / "session-box.key"

    @property
    def box_keys_folder(self) -> Path:
        """The folder with the public key of the box, for the data center."""
        return self.folder / "box-keys"

    def audits(self, datacenter: Path, box: Path, start_ms: int) -> SessionAudits:
        """Return the audit files; the monotonic clocks of both ends showed `start_ms` at the start of the lab."""
        contents = [path.read_bytes() if path.exists() else b"" for path in (datacenter, box)]
        return SessionAudits(
            contents[0], contents[1], self.datacenter_keys, self.box_keys, lab_time_ms(start_ms)
        )

    @property
    def datacenter_keys(self) -> Keys:
        """The data center's public key."""
        return key_set(self.datacenter.public_key())

    @property
    def box_keys(self) -> Keys:
        """The box's public key."""
        return key_set(self.box.public_key())


def session_settings(keys: SessionKeys, page: Path = Path("page.sock")) -> SessionSettings:
    """Return the box's settings of remote sessions; `page` is the socket of the local page."""
    return SessionSettings(
        endpoint=f"{DATACENTER_DOOR}:{DATACENTER_PORT}",
        keys=keys.offers,
        key=keys.box_key,
        ways=["code"],
        page=page,
    )


def desktops_by_link(lab: Lab) -> dict[str, int]:
    """Return the TCP ports of the desktops by the names of the instruments' links; none in a lab without sessions."""
    ports = {f"instrument:{spec.port}": desktop_of(spec.model) for spec in lab.instruments if lab.sessions}
    return {link: port for link, port in ports.items() if port is not None}
