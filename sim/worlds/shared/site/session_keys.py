"""The keys of remote sessions in a lab, the box's settings for them, and the audit files of both ends."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from sqlalchemy import select

from agents.box.audit.log_cursor import SESSIONS
from agents.box.configuration.config import SessionSettings
from datacenter.store.store import Store
from datacenter.store.tables.schema import box_audit
from sim.lab.labfile import Lab
from sim.lab.sessions import desktop_of
from sim.verdict.found.sessions import SessionAudits
from sim.worlds.shared.site.addresses import BOX_SERIAL, DATACENTER_PORT, DATACENTER_TUNNEL
from wire.messages import Entry, LogLine, decode
from wire.session.audit import SessionRecord
from wire.session.cose import Keys, key_set, new_key
from wire.session.table import End


@dataclass(frozen=True)
class SessionKeys:
    """The keys with which both ends sign, in files."""

    datacenter: EllipticCurvePrivateKey
    box: EllipticCurvePrivateKey | None
    """None: the box signs with the key of its certificate."""
    folder: Path
    """The folder of the files."""

    @classmethod
    def make(
        cls,
        folder: Path,
        *,
        signs_with_certificate: bool = False,
        make_key: Callable[[], EllipticCurvePrivateKey] = new_key,
    ) -> SessionKeys:
        """Make new keys with `make_key`, and the files of both ends."""
        folder.mkdir(exist_ok=True)
        box = None if signs_with_certificate else make_key()
        keys = cls(make_key(), box, folder)
        _write(keys.datacenter, keys.offers, keys.offer_key)
        if box is not None:
            keys.box_keys_folder.mkdir()
            _write(box, keys.box_keys_folder / f"{BOX_SERIAL}.pem", keys.box_key)
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

    def audits(
        self,
        datacenter: Path,
        box: Path,
        store: Store,
        lab_ns: Callable[[End, SessionRecord], int],
        box_keys: Keys | None = None,
    ) -> SessionAudits:
        """Return the audit files, and the lines that the data center has stored.

        `box_keys` are the keys of a box that signs with the key of its certificate. Raises: StoreError.
        """
        contents = [path.read_bytes() if path.exists() else b"" for path in (datacenter, box)]
        return SessionAudits(
            contents[0],
            contents[1],
            sent_lines(store),
            self.datacenter_keys,
            box_keys or self.box_keys,
            lab_ns,
        )

    @property
    def offer_text(self) -> str:
        """The data center's public key, as a site file has it."""
        key = self.datacenter.public_key()
        return b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()

    @property
    def datacenter_keys(self) -> Keys:
        """The data center's public key."""
        return key_set(self.datacenter.public_key())

    @property
    def box_keys(self) -> Keys:
        """The box's public key; none if the certificate's key is used."""
        return key_set(self.box.public_key()) if self.box else {}


def _write(key: EllipticCurvePrivateKey, public: Path, private: Path) -> None:
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    private.touch(0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def sent_lines(store: Store) -> list[LogLine]:
    """Return the lines of remote sessions among the audit records of the lab's box, sorted by their offsets.

    Raises: StoreError.
    """
    rows = store.read(select(box_audit.c.entry).where(box_audit.c.line.is_not(None)))
    lines = [decode(Entry, entry).body for (entry,) in rows]
    session_lines = [line for line in lines if isinstance(line, LogLine) and line.source == SESSIONS]
    return sorted(session_lines, key=lambda line: line.offset)


def session_settings(keys: SessionKeys, page: Path = Path("page.sock")) -> SessionSettings:
    """Return the box's settings for remote sessions; `page` is the socket of the local page."""
    return SessionSettings(
        endpoint=f"{DATACENTER_TUNNEL}:{DATACENTER_PORT}",
        keys=keys.offers,
        key=keys.box_key,
        ways=["code"],
        page=page,
    )


def desktops_by_link(lab: Lab) -> dict[str, int]:
    """Return the TCP ports of the desktops by the names of the instruments' links; none in a lab without sessions."""
    ports = {f"instrument:{spec.port}": desktop_of(spec.model) for spec in lab.instruments if lab.sessions}
    return {link: port for link, port in ports.items() if port is not None}
