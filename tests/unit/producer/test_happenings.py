"""Rates, history and failures from events, by a clock of the test's own."""

from producer.happenings import FAILURES, HISTORY, WINDOW_S, Happenings


def event(kind: str, worker: str = "w1", **more: object) -> dict[str, object]:
    """Make an event as Celery sends it."""
    return {"type": kind, "hostname": worker, **more}


def test_rates_are_those_of_the_window_and_of_each_worker() -> None:
    """Given events of two workers over time, then only those of the last seconds count, each for its worker."""
    now = [1000.0]
    seen = Happenings(clock=lambda: now[0])
    for _ in range(7):
        seen.see(event("task-succeeded"))
    now[0] += WINDOW_S + 1
    for _ in range(20):
        seen.see(event("task-succeeded"))
    seen.see(event("task-failed", "w2", uuid="j", exception="E()"))
    assert seen.rates() == {"w1": (20 / WINDOW_S, 0.0), "w2": (0.0, 1 / WINDOW_S)}


def test_the_history_has_a_place_for_every_second() -> None:
    """Given jobs in two seconds with a gap, then the gap is a nought; the second that is not over does not count."""
    now = [1000.5]
    seen = Happenings(clock=lambda: now[0])
    seen.see(event("task-succeeded"))
    now[0] = 1002.1
    seen.see(event("task-succeeded"))
    seen.see(event("task-failed"))
    now[0] = 1003.9
    seen.see(event("task-succeeded"))
    assert seen.history() == [0] * (HISTORY - 3) + [1, 0, 2]


def test_the_last_failures_are_kept_the_newest_first() -> None:
    """Given more failures than there is room for, then the oldest are gone."""
    seen = Happenings()
    for number in range(FAILURES + 5):
        seen.see(event("task-failed", uuid=f"j{number}", exception="E()"))
    assert [one.job for one in seen.failures()] == [f"j{FAILURES + 4 - number}" for number in range(FAILURES)]


def test_a_worker_that_says_goodbye_is_gone() -> None:
    """Given a heartbeat and then the worker's end, then its load was known until then."""
    seen = Happenings()
    seen.see(event("worker-heartbeat", active=3, loadavg=[0.5, 0.4, 0.3]))
    assert seen.heartbeats() == {"w1": (3, 0.5)}
    seen.see(event("worker-offline"))
    assert seen.heartbeats() == {}


def test_events_that_lack_everything_do_no_harm() -> None:
    """Given events of strangers, then nothing is raised."""
    seen = Happenings()
    for kind in ("task-failed", "worker-heartbeat", "worker-online", "nonsense"):
        seen.see({"type": kind})
    assert seen.failures()[0].job == "None"
