"""Whatever comes, ends, is revoked or reconnects: no place is lost, given twice, or free beside one who waits."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker.turns import KEPT_S, FairPlaces


class Places(RuleBasedStateMachine):
    """Celery's consumer and the pool around the places, with nothing inside the jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 1
        self.now = 0.0
        self.taken: Counter[str] = Counter()
        self.at_work: list[Any] = []
        self.waiting: list[Any] = []
        self.most = 0
        self.places = FairPlaces(1, self.taken.__getitem__, lambda: self.now)

    @initialize(count=st.integers(1, 5))
    def start(self, count: int) -> None:
        """Begin with some places."""
        self.count = count
        self.places = FairPlaces(count, self.taken.__getitem__, lambda: self.now)

    def _begin(self, job: Any) -> None:
        self.waiting.remove(job)
        if job.revoked:
            self.places.release()
            return
        self.at_work.append(job)
        self.taken[job.queue] += 1
        self.most = max(self.most, len(self.at_work))

    @rule(queue=st.sampled_from(["a", "b", "c"]))
    def come(self, queue: str) -> None:
        """A message comes."""
        job = SimpleNamespace(queue=queue, revoked=False, delivery_info={"routing_key": queue})
        self.waiting.append(job)
        self.places.acquire(self._begin, job)

    @precondition(lambda self: self.at_work)
    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        """A job ends."""
        job = self.at_work.pop(which % len(self.at_work))
        self.taken[job.queue] -= 1
        self.places.release()

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 100))
    def revoke(self, which: int) -> None:
        """A job is revoked while it waits."""
        self.waiting[which % len(self.waiting)].revoked = True

    @rule()
    def reconnect(self) -> None:
        """Celery frees all places and forgets who waits; the pool takes those of its jobs again."""
        self.places.clear()
        self.waiting.clear()
        for _ in self.at_work:
            self.places.acquire(lambda: None)

    @rule(seconds=st.sampled_from([0.1, 1.0, KEPT_S + 0.1]))
    def look(self, seconds: float) -> None:
        """The loop looks whether a kept place may be given away; after a while, it may."""
        self.now += seconds
        self.places.give()
        if seconds > KEPT_S:
            assert not self.waiting or not self.places.value

    @invariant()
    def no_place_is_lost_or_given_twice(self) -> None:
        """Every place is free or has its job."""
        assert self.most <= self.count
        assert self.places.value == self.count - len(self.at_work)


TestPlaces = Places.TestCase
TestPlaces.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
