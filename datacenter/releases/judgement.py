"""Judges a running rollout by the figures of its waves: whether it stops, waits, continues, or is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from datacenter.releases.plan import RolloutPlan

Verdict: TypeAlias = Literal["stop", "wait", "next wave", "done"]


class WaveFigures(NamedTuple):
    """The numbers of boxes in a wave, by outcome."""

    boxes: int = 0
    present: int = 0
    """Boxes that already ran the release."""
    waiting: int = 0
    """Boxes without an order so far."""
    open: int = 0
    """Boxes whose order has not ended."""
    committed: int = 0
    failed: int = 0
    """Boxes that refused, failed, returned, or did not respond in time."""
    withdrawn: int = 0
    last_ended_ms: int = 0
    """The time at which the latest order ended, by the data center's clock; 0 if none did."""


class Judgement(NamedTuple):
    """The next step of a rollout, and its reason."""

    verdict: Verdict
    reason: str = ""


def judge(
    plan: RolloutPlan, waves: Sequence[WaveFigures], current: int, began_ms: int, now_ms: int
) -> Judgement:
    """Judge a running or paused rollout in its wave `current`, which began at `began_ms`."""
    for number, wave in enumerate(waves[: current + 1], 1):
        counted = wave.boxes - wave.present
        if 100 * wave.failed > plan.failures_percent * counted:
            return Judgement(
                "stop",
                f"{wave.failed} of {counted} boxes of wave {number} failed; the plan permits"
                f" {plan.failures_percent} %",
            )
    failed = sum(wave.failed for wave in waves)
    if plan.failures_max is not None and failed > plan.failures_max:
        return Judgement("stop", f"{failed} boxes failed; the plan permits {plan.failures_max}")
    wave = waves[current]
    if wave.waiting or wave.open:
        return Judgement("wait")
    is_observed = wave.last_ended_ms == 0 or now_ms >= max(wave.last_ended_ms, began_ms) + plan.observe_ms
    if not is_observed:
        return Judgement("wait")
    if current + 1 < len(waves):
        return Judgement("next wave", f"wave {current + 1} is complete")
    return Judgement("done", "all waves are complete")
