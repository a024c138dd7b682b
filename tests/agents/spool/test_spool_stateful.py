"""Random operations on a spool with a failing disk, compared with a model."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agents.spool import Priority, SpoolError, SpoolLimits
from agents.spool.waiting import pinned
from tests.support.agents.spool.model import BY_SUMMARIES, LIMITS, Harness

priorities = st.sampled_from([Priority.ROUTINE] * 4 + [Priority.AUDIT, Priority.ALERT])
records = st.lists(st.tuples(priorities, st.sampled_from([8, 60, 250, 500])), min_size=1, max_size=8)


class SpoolMachine(RuleBasedStateMachine):
    reads_after_each_step = True

    @initialize(seed=st.integers(0, 2**16), limits=st.sampled_from([LIMITS, BY_SUMMARIES]))
    def start(self, seed: int, limits: SpoolLimits) -> None:
        self.h = Harness(seed, limits=limits)

    @rule()
    def verify(self) -> None:
        if self.h.disk.backend.has_power:
            self.h.spool.verify_next()

    @rule(group=records, times=st.integers(1, 8))
    def append(self, group: list[tuple[Priority, int]], times: int) -> None:
        for _ in range(times):
            before = self.h.spool.status()
            is_appended = self.h.append([p for p, _ in group], [size for _, size in group])
            if not self.h.disk.backend.has_power:
                return self.h.reboot()
            if is_appended:
                assert self.h.spool.status().disk_bytes <= LIMITS.spool_bytes_max
            else:
                alerts = self.h.spool.status().records[Priority.ALERT]
                assert alerts >= before.records[Priority.ALERT] or self.h.rotten
        return None

    @rule(priority=st.sampled_from(Priority), n=st.integers(1, 40), share=st.floats(0, 1))
    def deliver(self, priority: Priority, n: int, share: float) -> None:
        waiting = self.h.read(priority, n)
        if waiting:
            self.h.ack(priority, waiting[int(share * (len(waiting) - 1))][0])

    @rule(priority=st.sampled_from(Priority), share=st.floats(0, 1))
    def discard(self, priority: Priority, share: float) -> None:
        waiting = self.h.read(priority)
        if waiting:
            self.h.discard(priority, waiting[int(share * (len(waiting) - 1))][0])

    @rule(priority=st.sampled_from(Priority), batch=st.integers(1, 5))
    def pipeline(self, priority: Priority, batch: int) -> None:
        in_batches = [seq for seq, _ in self.h.read_all(priority, batch)]
        assert in_batches == [seq for seq, _ in self.h.read(priority, 100000)]

    @rule()
    def drain(self) -> None:
        for priority in Priority:
            waiting = self.h.read_all(priority)
            if waiting:
                self.h.ack(priority, waiting[-1][0])

    @rule(operation=st.integers(1, 6))
    def arm_power_cut(self, operation: int) -> None:
        self.h.disk.backend.cut_power_at(operation)

    @rule()
    def cut_power(self) -> None:
        self.h.reboot()

    @rule()
    def kill(self) -> None:
        self.h.open()

    @rule()
    def close(self) -> None:
        self.h.spool.close()
        if self.h.disk.backend.has_power:
            self.h.open()
        else:
            self.h.reboot()

    @rule(times=st.integers(1, 3))
    def fail_flushes(self, times: int) -> None:
        self.h.disk.backend.fail_next_flush(times)

    @rule()
    def fail_write(self) -> None:
        self.h.disk.backend.fail_next_write()

    @rule()
    def fill(self) -> None:
        self.h.disk.backend.fill()

    @rule()
    def make_room(self) -> None:
        self.h.disk.backend.set_capacity(1 << 30)

    @rule()
    def check(self) -> None:
        if self.h.disk.backend.has_power:
            try:
                self.h.check()
            except SpoolError:
                assert not self.h.disk.backend.has_power
        if not self.h.disk.backend.has_power:
            self.h.reboot()

    @invariant()
    def totals_are_sums(self) -> None:
        if hasattr(self, "h"):
            self.h.check_totals()

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "h") or not self.reads_after_each_step:
            return
        h = self.h
        for priority in Priority:
            present = dict(h.read_all(priority))
            assert h.rotten or h.spool.status().records[priority] == len(present)
            for seq, (promised_priority, payload) in h.promised.items():
                if promised_priority is priority and seq > h.acked[priority] and seq not in h.explained:
                    assert h.rotten or present.get(seq) == payload, (priority, seq)


class RottingSpoolMachine(SpoolMachine):
    @rule(bits=st.integers(1, 3), now=st.booleans())
    def flip_bits(self, bits: int, now: bool) -> None:
        if self.h.promised and self.h.disk.backend.has_power:
            self.h.rotten = True
            self.h.disk.backend.flip_bits(bits=bits)
            if now:
                self.h.reboot()

    @rule()
    def rot_all_since_opening(self) -> None:
        """Damage everything written since the last opening; only the file names show the last number."""
        self.h.rot_all_since(*self.h.found)
        self.h.reboot()

    @rule(share=st.floats(0, 1))
    def rot_the_end(self, share: float) -> None:
        """Damage the newest segment from any sector on."""
        segments = self.h.spool.log.segments
        if segments:
            self.h.rot_all_since(segments[-1].generation, int(share * segments[-1].end) // 512 * 512)
        self.h.reboot()

    @rule()
    def stop_checking(self) -> None:
        """Disable the check after each step, which would find losses by reading."""
        self.reads_after_each_step = False

    @rule()
    def unreadable_sector(self) -> None:
        names = self.h.disk.names()
        if names:
            self.h.rotten = True
            name = self.h.random.choice(names)
            self.h.disk.backend.make_unreadable(name, self.h.random.randrange(LIMITS.segment_bytes))


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limit the memory, so that positions of alerts and audit records are dropped and read again."""
    monkeypatch.setattr(pinned, "RESIDENT_RECORDS_MAX", 12)
    yield


EXAMPLES = int(os.environ.get("SPOOL_EXAMPLES", "60"))
_settings = settings(max_examples=EXAMPLES, stateful_step_count=40, suppress_health_check=list(HealthCheck))
TestSpool = SpoolMachine.TestCase
TestSpool.settings = _settings
TestRottingSpool = RottingSpoolMachine.TestCase
TestRottingSpool.settings = _settings
