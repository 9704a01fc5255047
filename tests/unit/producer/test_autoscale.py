"""How many workers a backlog needs: up at once, down after a time of calm, never out of bounds."""

from hypothesis import given
from hypothesis import strategies as some

from producer.autoscale import Backlog, Rules, Scaler

RULES = Rules(least=1, most=8, jobs_per_worker=10, oldest_s=5, calm_s=60)


def test_a_worker_for_every_so_many_jobs() -> None:
    """Given waiting and held jobs, then both count, and a part of a worker's share is one worker."""
    assert Scaler(RULES).decide(Backlog(31, 4), 4, 0) == 4
    assert Scaler(RULES).decide(Backlog(41, 0), 4, 0) == 5


def test_it_grows_at_once_but_not_by_more_than_the_double_and_one() -> None:
    """Given a flood, then 0, 1, 3, 7 and 8 workers, one look after the other."""
    scaler, workers, seen = Scaler(RULES), 0, []
    for look in range(5):
        workers = scaler.decide(Backlog(1000, 0), workers, look)
        seen.append(workers)
    assert seen == [1, 3, 7, 8, 8]


def test_a_job_that_waits_too_long_asks_for_one_more() -> None:
    """Given few but slow jobs, when the oldest has waited longer than the limit, then one worker more; not before."""
    assert Scaler(RULES).decide(Backlog(5, 2, oldest_s=4.9), 2, 0) == 1
    assert Scaler(RULES).decide(Backlog(5, 2, oldest_s=5.1), 2, 0) == 3


def test_it_shrinks_only_after_a_time_of_calm() -> None:
    """Given work that ends, then workers stay for a minute, and go to what was needed most in that minute."""
    scaler = Scaler(RULES)
    assert scaler.decide(Backlog(60, 0), 6, 0) == 6
    assert scaler.decide(Backlog(25, 0), 6, 30) == 6
    assert scaler.decide(Backlog(0, 0), 6, 59) == 6
    assert scaler.decide(Backlog(0, 0), 6, 61) == 3
    assert scaler.decide(Backlog(0, 0), 3, 92) == 1


def test_to_nothing_and_back() -> None:
    """Given that none is needed always, then the last goes after the calm, and the first job brings one."""
    scaler = Scaler(Rules(least=0, most=3, jobs_per_worker=10, calm_s=60))
    assert scaler.decide(Backlog(0, 1), 1, 0) == 1
    assert scaler.decide(Backlog(0, 0), 1, 61) == 0
    assert scaler.decide(Backlog(1, 0), 0, 62) == 1


@given(
    some.lists(some.tuples(some.integers(0, 500), some.integers(0, 50), some.floats(0, 100)), min_size=1, max_size=30)
)
def test_it_never_leaves_its_bounds(readings: list[tuple[int, int, float]]) -> None:
    """Given any readings, then the number is always between least and most."""
    scaler, workers = Scaler(RULES), 4
    for look, (waiting, held, oldest_s) in enumerate(readings):
        workers = scaler.decide(Backlog(waiting, held, oldest_s), workers, 7.0 * look)
        assert RULES.least <= workers <= RULES.most
