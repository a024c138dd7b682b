"""In any order of events, a box has one order at a time, and an ended rollout orders no further boxes."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import func, select

from datacenter.releases.orders import IS_OPEN
from datacenter.releases.plan import RolloutPlan
from datacenter.releases.runner import change_state
from datacenter.releases.states import TRANSITIONS, RolloutEvent
from datacenter.store.store import Store
from datacenter.store.tables.schema import rollouts, update_orders
from tests.support.datacenter.rollouts import SimulatedFleet, release_set
from wire.messages import UPDATE_WORDS, UpdateWord

BOXES_MAX = 8
PLANS = st.builds(
    RolloutPlan,
    release=st.integers(2, 3),
    waves=st.sampled_from([(100,), (20, 100), (1, 50, 100)]),
    observe_hours=st.integers(0, 2),
    answer_hours=st.integers(1, 4),
    failures_percent=st.sampled_from([0, 30, 100]),
)
_O = update_orders.c


class RolloutMachine(RuleBasedStateMachine):
    """Boxes appear, request orders, and report any step; staff start, pause and withdraw rollouts; time passes."""

    @initialize()
    def begin(self) -> None:
        self.store = Store("sqlite://")
        self.fleet = SimulatedFleet(self.store, release_set(2, 3))
        self.over: dict[int, int] = {}
        self.fleet.add("RAP-0001", "RAP-0002")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    @rule(plan=PLANS)
    def start(self, plan: RolloutPlan) -> None:
        self.fleet.start(plan)

    @precondition(lambda self: len(self.fleet.boxes) < BOXES_MAX)
    @rule()
    def add(self) -> None:
        self.fleet.add(f"RAP-{len(self.fleet.boxes) + 1:04}")

    @rule(hours=st.sampled_from([0, 0.5, 1, 5]))
    def advance(self, hours: float) -> None:
        self.fleet.advance(hours)

    @rule()
    def work(self) -> None:
        self.fleet.work()

    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        self.fleet.ask(data.draw(st.sampled_from(sorted(self.fleet.boxes))))

    @rule(data=st.data(), step=st.sampled_from(UPDATE_WORDS), order=st.integers(1, 30))
    def report(self, data: st.DataObject, step: UpdateWord, order: int) -> None:
        box = data.draw(st.sampled_from(sorted(self.fleet.boxes)))
        steps = [self.fleet.step(order, release, step) for release in (2, 3)]
        self.fleet.report(box, *steps)

    @rule(data=st.data(), event=st.sampled_from(["pause", "resume", "withdraw"]))
    def change(self, data: st.DataObject, event: RolloutEvent) -> None:
        numbers = [number for number, state in self._states().items() if state in TRANSITIONS[event]]
        if numbers:
            with self.store.transaction() as connection:
                change_state(connection, data.draw(st.sampled_from(numbers)), event, "", self.fleet.now_ms)

    @invariant()
    def a_box_has_one_order_at_a_time(self) -> None:
        if hasattr(self, "store"):
            assert max(Counter(self.store.read(select(_O.box).where(IS_OPEN))).values(), default=0) <= 1

    @invariant()
    def a_box_gets_each_order_once_and_one_of_each_rollout(self) -> None:
        if not hasattr(self, "store"):
            return
        for box in self.fleet.boxes.values():
            of_box = [order.order for order in box.orders]
            query = select(_O.rollout).where(_O.id.in_(of_box))
            of_rollouts = [rollout for (rollout,) in self.store.read(query)]
            assert len(of_rollouts) == len(set(of_rollouts)) == len(set(of_box))

    @invariant()
    def an_ended_rollout_orders_no_further_boxes(self) -> None:
        if not hasattr(self, "store"):
            return
        query = select(_O.rollout, func.count(_O.ordered_at_ms)).group_by(_O.rollout)
        ordered = dict(map(tuple, self.store.read(query)))
        for number, state in self._states().items():
            if state in ("stopped", "withdrawn", "done"):
                assert ordered.get(number, 0) == self.over.setdefault(number, ordered.get(number, 0))

    def _states(self) -> dict[int, str]:
        return dict(map(tuple, self.store.read(select(rollouts.c.id, rollouts.c.state))))


TestRollouts = RolloutMachine.TestCase
TestRollouts.settings = settings(max_examples=12, stateful_step_count=30)
