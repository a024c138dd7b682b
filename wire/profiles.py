"""The allow-list of an instrument: whether each word of a report is in the instrument's profile.

Reports consist of these words and of integers only: no field can carry a name, a sample number or any other text
about a patient.
"""

from __future__ import annotations

from settings.profile import Profile
from wire.messages import Alert, Calibration, InstrumentReport, Inventory, Quality, Status


class AllowList:
    """The words of a profile, prepared for checking many reports."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._channels, self._assays = frozenset(profile.channels), frozenset(profile.assays)
        self._codes = {code: error.component for code, error in profile.errors.items()}

    def refusal(self, report: InstrumentReport) -> str:
        """Return a message with the words of the report that are not in the profile; empty if all are."""
        kind = type(report)
        if kind is Status:
            outside = report.readings.keys() - self._channels  # type: ignore[union-attr]
        elif kind is Inventory:
            outside = report.tests_left.keys() - self._assays  # type: ignore[union-attr]
        elif kind is Quality or kind is Calibration:
            outside = {report.assay} - self._assays  # type: ignore[union-attr]
        elif kind is Alert:
            return self._alert_refusal(report)  # type: ignore[arg-type]
        else:
            return ""
        if not outside:
            return ""
        return self._message(", ".join(sorted(outside)))

    def _alert_refusal(self, alert: Alert) -> str:
        component = self._codes.get(alert.code)
        if component is None:
            return self._message(f"error code {alert.code}")
        if component != alert.component:
            return self._message(f"error code {alert.code} of component {alert.component}")
        return ""

    def _message(self, words: str) -> str:
        return f"not in the profile of {self.profile.model}, version {self.profile.version}: {words}"
