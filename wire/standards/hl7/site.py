"""The site's settings of an HL7 port."""

from __future__ import annotations

from settings.adapted import AdaptedPort
from wire.standards.hl7.dialect import hl7_dialect
from wire.standards.site_codes import SiteCodes


class Hl7Site(SiteCodes):
    """The codes of the site, and the options of the dialect.

    Raises: ValueError if an option of the dialect is unknown or invalid.
    """

    def __init__(self, port: AdaptedPort) -> None:
        self.dialect = hl7_dialect(port.dialect)
        self.masked = self.dialect.charset == "gb18030"
        self.fs_ends = self.dialect.message_end == "fs"
        super().__init__(port, masked=self.masked)
