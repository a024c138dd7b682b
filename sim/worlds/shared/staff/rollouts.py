"""Rollouts of a lab, which no staff member proposes or approves."""

from __future__ import annotations

from sqlalchemy import insert

from datacenter.releases.plan import RolloutPlan, encode_plan
from datacenter.store.store import Store
from datacenter.store.tables.schema import rollouts
from wire.release.messages import Kind


def begin_rollout(store: Store, plan: RolloutPlan, now_ms: int, kind: Kind = "system") -> None:
    """Store a rollout that is running."""
    values = {
        "release": plan.release,
        "name": f"1.{plan.release}.0",
        "kind": kind,
        "site": "",
        "country": "",
        "region": "",
        "plan": encode_plan(plan),
        "requester": "lab",
        "purpose": "service",
        "created_at_ms": now_ms,
        "state": "running",
        "changed_at_ms": now_ms,
    }
    with store.transaction() as connection:
        connection.execute(insert(rollouts).values(values))
