"""The registration authority over a store with one box, its clock, and staff who decide."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from sqlalchemy import insert, update

from datacenter.access.control import AccessDecider, AccessRules
from datacenter.access.decision import Decision
from datacenter.access.directory import StaffDirectory
from datacenter.enrolment.desk import EnrolmentDesk
from datacenter.enrolment.registration import Outcome, RegistrationAuthority
from datacenter.store.store import Store
from datacenter.store.tables.schema import boxes, sites
from datacenter.vendor_ca.authority import VendorAuthority
from tests.support.datacenter.web.client import PEOPLE, POLICIES, person
from wire.pki.hierarchy import Authority, PrivateKey, Validity, make_key
from wire.pki.request import make_request

BOX, DAY_MS, START_MS = "RAP-0001", 86_400_000, 1_790_000_000_000
CA = Authority.make("vendor", now=datetime.fromtimestamp(START_MS / 1000, UTC))
INSTALLER = person("installer", "Installer", "UTC", "installer", "everywhere")
STAFF = StaffDirectory(
    {name: one.principal for name, one in (PEOPLE | {"installer": INSTALLER}).items()}, {}, PEOPLE
)


class Enrolling:
    """The registration authority of a store with one box, and a clock."""

    def __init__(self, store: Store) -> None:
        self.store, self.now_ms = store, START_MS
        authority = VendorAuthority(CA.certificate, CA.key, (), (CA.root,))
        self.registration = RegistrationAuthority(store, authority, lambda: self.now_ms)
        self.decisions: list[Decision] = []
        self.desk = EnrolmentDesk(store, AccessDecider(AccessRules(POLICIES, STAFF), self.decisions.append))

    def current(self, box: str = BOX) -> x509.Certificate:
        validity = Validity.days(90, datetime.fromtimestamp(START_MS / 1000, UTC))
        return x509.load_pem_x509_certificate(CA.certify(box, make_key().public_key(), validity=validity))

    def ask(self, key: PrivateKey, box: str = BOX, current: x509.Certificate | None = None) -> Outcome:
        return self.registration.enrol(box, current or self.current(box), make_request(box, key))

    def ask_behind(
        self,
        key: PrivateKey,
        instrument: str,
        box: str = BOX,
        current: x509.Certificate | None = None,
    ) -> Outcome:
        """Request a certificate for an instrument behind a box."""
        request = make_request(instrument, key)
        return self.registration.enrol_instrument(box, current or self.current(instrument), request)


def store_with_a_box() -> Store:
    """Return a store in memory with BOX at the site berlin."""
    store = Store("sqlite://")
    store.authorize([BOX], 0)
    with store.transaction() as connection:
        site = {"site": "berlin", "name": "B", "country": "DE", "region": "europe", "zone": "UTC"}
        connection.execute(insert(sites).values(site))
        connection.execute(update(boxes).values(site="berlin"))
    return store
