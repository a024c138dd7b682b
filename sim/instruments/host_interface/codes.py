"""The codes that an instrument sends, and the site's settings that define their meaning for the box."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from settings.adapted import AdaptedPort, AlarmMapping, Columns, Control, ControlTarget, SerialLineSettings
from settings.profile import Profile
from sim.instruments.host_interface.clock import ZONE
from sim.instruments.host_interface.dialects import OPTIONS
from sim.instruments.model import InstrumentModel

AU_COLUMNS: Final = Columns(
    type=[0, 2],
    analyzer=[2, 4],
    rack=[4, 8],
    cup=[8, 10],
    kind=[10, 11],
    number=[11, 15],
    sample=[15, 25],
    results_from=26,
    test=3,
    value=7,
    flag=2,
)
SD: Final = Decimal("0.20")
"""The standard deviation of all controls. Deviations in steps of 0.05 SD are then values with two decimals."""


class HostCodes:
    """Test codes, control IDs and alarms of one instrument."""

    def __init__(self, model: InstrumentModel, profile: Profile, dialect: frozenset[str]) -> None:
        self.speaks, self.dialect, self.profile = profile.speaks, dialect, profile
        digits = profile.speaks in ("au", "astm", "astm-serial")
        self.tests = {
            assay: f"{number:03}" if digits else f"{assay.upper()}2"
            for number, assay in enumerate(profile.assays, 1)
        }
        self.levels = range(1, model.control_levels + 1)
        self.assays = model.controls

    def control(self, level: int) -> str:
        """Return the ID of a control."""
        if "gb-18030" in self.dialect:
            return f"倈质控{level}"
        if self.dialect & _LATIN:
            return f"CONTRÔLE{level}"
        return f"QC{level}"

    def alarm(self, code: str) -> str:
        """Return the instrument's alarm code for an error code of its profile."""
        return f"AL-{code}"

    def value(self, assay: str, level: int, deviation_msd: int) -> str:
        """Return the value of a control with this deviation, in thousandths of the standard deviation."""
        value = self._mean(assay, level) + SD * deviation_msd / 1000
        text = f"{value:.2f}"
        return text.replace(".", ",") if "decimal-comma" in self.dialect else text

    def site(self, serial_port: int | None) -> AdaptedPort:
        """Return the site's settings for the instrument; `serial_port` is its serial line's number on the board."""
        box: dict[str, Any] = {}
        for name in self.dialect:
            box |= OPTIONS[name].box.get(self.speaks, {})
        settings: Mapping[str, Any] = (
            {"time": "reception", "columns": AU_COLUMNS} if self.speaks == "au" else {}
        )
        return AdaptedPort(
            timezone=ZONE,
            tests={code: assay for assay, code in self.tests.items()},
            controls={self.control(level): self._control(level) for level in self.levels},
            alarms={
                self.alarm(code): AlarmMapping(code=code, component=error.component, severity=error.severity)
                for code, error in self.profile.errors.items()
            },
            serial=None if serial_port is None else SerialLineSettings(port=serial_port),
            dialect=box,
            **settings,
        )

    def _control(self, level: int) -> Control:
        return Control(level, {assay: ControlTarget(self._mean(assay, level), SD) for assay in self.assays})

    def _mean(self, assay: str, level: int) -> Decimal:
        return Decimal(10 * (self.assays.index(assay) + 1) + level)


_LATIN: Final = frozenset(("latin-1", "charset-absent", "charset-lying"))
