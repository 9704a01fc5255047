"""Models that share a worker take turns: at its places, at its decode threads, at the cores."""

import threading
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from worker.lanes import Lanes
from worker.shares import Shares
from worker.turns import KEPT_S, FairPlaces, queue_of

SOON_S = 10.0


class Turns:
    """Places with a record of who got one."""

    def __init__(self, places: int) -> None:
        self.taken: Counter[str] = Counter()
        self.served: list[str] = []
        self.now = 1000.0
        self.places = FairPlaces(places, self.taken.__getitem__, lambda: self.now)

    def come(self, *queues: str) -> None:
        for queue in queues:
            self.places.acquire(self._serve, SimpleNamespace(delivery_info={"routing_key": queue}))

    def leave(self, queue: str) -> None:
        self.taken[queue] -= 1
        self.places.release()

    def _serve(self, request: Any) -> None:
        self.served.append(queue_of((request,)))
        self.taken[self.served[-1]] += 1


def test_a_place_goes_to_the_queue_that_has_fewest() -> None:
    """Given places full of one queue and more of it waiting, then the first of another goes before them."""
    turns = Turns(3)
    turns.come("a", "a", "a", "a", "a", "b")

    turns.leave("a")

    assert turns.served == ["a", "a", "a", "b"]


def test_places_end_up_in_equal_parts() -> None:
    """Given a queue that ends fast and one that never does, then the slow one gets no more than its half."""
    turns = Turns(4)
    turns.come(*["slow"] * 4, *["fast"] * 4)
    turns.leave("slow")
    turns.leave("slow")
    for _ in range(10):
        turns.come("fast", "slow")
        turns.leave("fast")
    assert turns.taken == {"slow": 2, "fast": 2}


def test_what_does_not_end_does_not_take_the_last_place() -> None:
    """Given jobs of one queue that never end, when none of another waits for a moment, then its place is kept."""
    turns = Turns(4)
    turns.come("fast", *["stuck"] * 8)
    for _ in range(10):
        turns.leave("fast")
        turns.come("fast")
    assert turns.taken == {"stuck": 3, "fast": 1}


def test_a_place_is_kept_for_a_moment_only() -> None:
    """Given a queue of which nothing came for a while, then who waits gets its place too."""
    turns = Turns(4)
    turns.come("fast", *["stuck"] * 8)
    turns.leave("fast")
    turns.places.give()
    assert turns.taken["stuck"] == 3

    turns.now += KEPT_S
    turns.places.give()

    assert turns.taken["stuck"] == 4


@pytest.mark.parametrize(("places", "got"), [(1, 1), (2, 1), (4, 2), (6, 4)])
def test_no_more_than_half_of_the_places_are_kept(places: int, got: int) -> None:
    """Given two queues that have none just now, then a third has what is left; one place is kept for nobody."""
    turns = Turns(places)
    for other in ("a", "b"):
        turns.come(other)
        turns.leave(other)
    turns.come(*["c"] * 8)
    assert turns.taken["c"] == got


def test_in_a_queue_the_first_comes_first_and_nobody_is_no_error() -> None:
    """Given one queue, then the order is that of arrival; given none, then a place is kept for the next."""
    served: list[int] = []
    places = FairPlaces(1, lambda _: 0)
    for number in range(3):
        places.acquire(served.append, number)
    for _ in range(5):
        places.release()
    assert served == [0, 1, 2]
    assert places.value == 1


def test_thousands_that_have_expired_while_they_waited_hand_the_place_on() -> None:
    """Given more waiting jobs than Python can nest calls, each of which gives its place back at once, then all do."""
    gone: list[int] = []
    places = FairPlaces(1, lambda _: 0)

    def expired(number: int) -> None:
        gone.append(number)
        places.release()

    places.acquire(lambda: None)
    for number in range(5000):
        places.acquire(expired, number)
    places.release()
    assert gone == list(range(5000))
    assert places.value == 1


# ------------------------------------------------------------------------------------------------- decode threads


@pytest.fixture
def lanes() -> Any:
    """Make lanes that are closed at the end."""
    made: list[Lanes] = []

    def make(threads: int, count: int, together: int = 1) -> Lanes:
        made.append(Lanes(threads, lanes=count, together=together))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_lane_whose_work_waits_leaves_a_thread_to_the_other(lanes: Callable[..., Lanes]) -> None:
    """Given ten pieces of work that wait for a busy network, then work for another network is done meanwhile."""
    mine, gate, done = lanes(3, 2), threading.Event(), threading.Event()
    for _ in range(10):
        mine.submit("slow", gate.wait, SOON_S)

    mine.submit("fast", done.set)

    assert done.wait(SOON_S)
    assert not gate.is_set()
    gate.set()


def test_a_lane_alone_has_all_threads_but_those_kept_for_others(lanes: Callable[..., Lanes]) -> None:
    """Given one lane of one, then every thread works for it at once."""
    mine, together = lanes(3, 1), threading.Barrier(3)
    met: list[int] = []
    for _ in range(3):
        mine.submit("only", lambda: met.append(together.wait(SOON_S)))
    mine.close()
    assert sorted(met) == [0, 1, 2]


def test_closing_does_what_was_submitted_and_refuses_more(lanes: Callable[..., Lanes]) -> None:
    """Given work behind a busy lane and one piece that raises, then all of it is done before the lanes are closed."""
    mine = lanes(2, 2)
    seen: list[int] = []
    mine.submit("a", lambda: 1 / 0)
    for number in range(50):
        mine.submit("a", seen.append, number)
        mine.submit("b", seen.append, -number)
    mine.close()
    assert len(seen) == 100
    with pytest.raises(RuntimeError):
        mine.submit("a", seen.append, 0)


def test_work_that_gathers_is_done_with_what_waits_behind_it_and_nothing_else(lanes: Callable[..., Lanes]) -> None:
    """Given work of two kinds in a lane, then a thread gets up to three neighbours of a kind at once."""
    mine, gate = lanes(1, 1, together=3), threading.Event()
    seen: list[Any] = []
    mine.submit("a", gate.wait, SOON_S)
    for number in range(5):
        mine.gather("a", seen.append, number)
    mine.submit("a", seen.append, "alone")
    mine.gather("b", seen.append, "other lane")
    mine.gather("a", seen.append, 5)
    gate.set()
    mine.close()
    assert [one for one in seen if one != ["other lane"]] == [[0, 1, 2], [3, 4], "alone", [5]]
    assert ["other lane"] in seen


def test_what_is_first_comes_before_what_waits(lanes: Callable[..., Lanes]) -> None:
    """Given waiting work, then what is put before it is done before it."""
    mine, gate = lanes(1, 1), threading.Event()
    seen: list[int] = []
    mine.submit("a", gate.wait, SOON_S)
    mine.submit("a", seen.append, 2)
    mine.submit("a", seen.append, 1, first=True)
    gate.set()
    mine.close()
    assert seen == [1, 2]


# ---------------------------------------------------------------------------------------------------------- cores


def test_a_network_alone_has_all_its_requests_in_flight() -> None:
    """Given one that is busy, then nothing is kept from it."""
    shares = Shares()
    for _ in range(8):
        shares.take("a", alone=8, streams=4)


def test_two_busy_networks_have_half_of_their_streams_each() -> None:
    """Given one with all its requests in flight, then another starts at once, and the first comes down to its half."""
    shares = Shares()
    first = [shares.take("a", alone=8, streams=4) for _ in range(8)]
    second = [shares.take("b", alone=4, streams=2)]
    waiting, got = [threading.Event() for _ in range(2)], []

    def one_more(name: str, streams: int, told: threading.Event) -> None:
        got.append(shares.take(name, alone=2 * streams, streams=streams))
        told.set()

    for (name, streams), told in zip((("a", 4), ("b", 2)), waiting, strict=True):
        threading.Thread(target=one_more, args=(name, streams, told), daemon=True).start()
    for give_back in first[:6]:
        give_back()
    assert not waiting[0].wait(0.1)  # two are left, its half
    first[6]()
    assert waiting[0].wait(SOON_S)
    assert not waiting[1].is_set()
    second[0]()
    assert waiting[1].wait(SOON_S)
    assert len(got) == 2


def test_closing_lets_all_go_on() -> None:
    """Given one that waits for its share, then it goes on when the worker stops."""
    shares, told = Shares(), threading.Event()
    shares.take("a", alone=1, streams=1)
    threading.Thread(target=lambda: (shares.take("a", alone=1, streams=1), told.set()), daemon=True).start()
    shares.close()
    assert told.wait(SOON_S)
