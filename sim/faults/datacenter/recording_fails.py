"""Recordings of remote sessions that cannot be written."""

from __future__ import annotations

from sim.faults import Effect, End, Fault, fault
from sim.faults.world import EmulatedWorld


@fault("recording-fails", targets=("datacenter",))
class RecordingFails(Fault[EmulatedWorld], frozen=True):
    """No recording of a remote session can be written, as on a full disk."""

    @property
    def effect(self) -> Effect:
        return "none"

    async def start(self, world: EmulatedWorld, target: str) -> End:
        return world.datacenter.fail_recordings()
