"""An inference that was given up fails at once and its request comes back; a queue that closes gives up all."""

import random
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from tests.hazards import networks
from tests.hazards.child import in_child
from tests.hazards.networks import compiled, number_of, tensor
from tests.hazards.queues import LONG, SOON_S, answer, queue_of
from tests.waiting import eventually
from worker.infer_queue import InferQueue
from worker.inference import Inference, QueueClosedError
from worker.slots import Slots

# ------------------------------------------------------------------------------------------------------- cancel


def test_a_cancelled_inference_fails_at_once_and_its_request_comes_back():
    """The future does not wait for OpenVINO; the request is used again when its run has ended."""
    with queue_of(networks.lasting, 1) as queue:
        flight = queue.submit(tensor(1, first=LONG))

        assert flight.cancel()

        assert flight.done()
        with pytest.raises(CancelledError):
            flight.result(0)
        assert (queue.in_flight, queue.free) == (0, 0)
        assert answer(queue, 2) == 2
        assert queue.free == 1


def test_a_cancelled_inference_leaves_nothing_behind_in_the_network():
    """A run stopped by InferRequest.cancel leaves its shapes behind: the next image gets rows that are not its own."""
    with queue_of(compiled(networks.rows, 1), 1) as queue:
        whole_s = min(_timed(queue.submit(tensor(0, nonzero=5), timeout_s=SOON_S)) for _ in range(3))
        for part in range(10):
            assert queue.submit(tensor(part, nonzero=2), timeout_s=SOON_S).result(SOON_S).shape[0] == 2
            stopped = queue.submit(tensor(part, nonzero=5), timeout_s=SOON_S)
            threading.Event().wait(whole_s * part / 10)  # into the middle of the run
            stopped.cancel()
            after = queue.submit(tensor(part, nonzero=2), timeout_s=SOON_S).result(SOON_S)

            assert after.shape[0] == 2
            assert [number_of(row) for row in after] == [part, part]


def _timed(flight: Inference) -> float:
    flight.result(SOON_S)
    return flight.infer_s


def test_a_cancel_after_the_end_changes_nothing():
    """A result that is there stays, and so does a cancel."""
    with queue_of(networks.lasting, 1) as queue:
        done = queue.submit(tensor(1))
        done.result(SOON_S)
        stopped = queue.submit(tensor(2, first=LONG))
        stopped.cancel()

        assert not done.cancel()
        assert number_of(done.result()) == 1
        assert not stopped.cancel()
        assert isinstance(stopped.exception(), CancelledError)


def test_cancels_at_every_moment_of_a_run_leave_the_others_right():
    """Two threads run and two cancel on two requests; what is not cancelled is right, what is has no result."""
    flights: list[Any] = []
    running = threading.Event()
    running.set()

    def cancel_any():
        chance = random.Random(3)
        while running.is_set():
            if flights:
                flights[chance.randrange(len(flights))].cancel()

    def run(queue, thread):
        ended = {"right": 0, "cancelled": 0}
        for number in range(thread, 600, 2):
            flight = queue.submit(tensor(number), timeout_s=SOON_S)
            flights[:] = [*flights[-3:], flight]
            problem = flight.exception(SOON_S)
            assert problem is None or isinstance(problem, CancelledError)
            assert problem is not None or number_of(flight.result()) == number
            ended["cancelled" if problem else "right"] += 1
        return ended

    with queue_of(networks.echo, 2, check_every_s=0.001) as queue, ThreadPoolExecutor(3) as threads:
        canceller = threads.submit(cancel_any)
        try:
            ended = list(threads.map(lambda thread: run(queue, thread), range(2)))
        finally:
            running.clear()
        canceller.result(SOON_S)

        assert sum(one["right"] + one["cancelled"] for one in ended) == 600
        assert sum(one["right"] for one in ended) > 0
        eventually(lambda: (queue.free, queue.in_flight) == (2, 0))


def test_a_request_whose_run_does_not_end_is_replaced():
    """The queue has its full size again while the old run still goes on, and the new request is right."""
    with queue_of(networks.lasting, 1, check_every_s=0.002, abandon_after_s=0.01) as queue:
        for _ in range(2):  # what was abandoned replaces the next
            queue.submit(tensor(1, first=4 * LONG)).cancel()

            for number in range(3):
                assert answer(queue, number) == number

            assert queue._slots.abandoned == 1
            assert (queue.size, queue.free) == (1, 1)
            eventually(lambda: not queue._slots.abandoned)
            assert [answer(queue, number) for number in range(3)] == [0, 1, 2]


def test_requests_that_were_replaced_come_back_when_their_runs_end():
    """Three runs that do not end and two requests: one replacement each, the rest waits, nothing is lost for good."""
    with queue_of(networks.lasting, 1, check_every_s=0.002, abandon_after_s=0.01) as queue:
        for number in range(3):
            queue.submit(tensor(number, first=2 * LONG), timeout_s=SOON_S).cancel()

        assert answer(queue, 4) == 4
        eventually(lambda: not queue._slots.abandoned and queue.free == 1)
        assert [answer(queue, number) for number in range(3)] == [0, 1, 2]


# --------------------------------------------------------------------------------------------------------- close


def test_close_wakes_every_thread_that_waits_for_a_request():
    """Five decode threads that wait all learn that there will be no request."""
    queue = InferQueue(compiled(networks.lasting), 1)
    queue.submit(tensor(1, first=LONG))

    def waiting():
        return sum(frame.f_code is Slots.take.__code__ for frame in sys._current_frames().values())

    with ThreadPoolExecutor(5) as threads:
        told = [threads.submit(queue.submit, tensor(2), timeout_s=SOON_S) for _ in range(5)]
        eventually(lambda: waiting() == 5)
        queue.close()

        assert all(isinstance(one.exception(SOON_S), QueueClosedError) for one in told)


def test_close_cancels_what_is_in_flight_and_returns_when_all_stands_still():
    """After it no request runs and no thread of the queue is left."""
    queue = InferQueue(compiled(networks.lasting), 2)
    flights = [queue.submit(tensor(number, first=LONG)) for number in range(2)]

    queue.close(timeout_s=SOON_S)

    assert all(isinstance(flight.exception(0), CancelledError) for flight in flights)
    assert queue.in_flight == 0
    assert not queue._supervisor.is_alive()
    with pytest.raises(QueueClosedError):
        queue.submit(tensor(3))
    queue.close()


def test_close_does_not_wait_for_ever():
    """A run that does not end delays the end by the time that was given: it is not over when that is."""
    queue = InferQueue(compiled(networks.lasting), 1)
    queue.submit(tensor(1, first=16 * LONG))

    queue.close(timeout_s=0.05)

    assert len(queue._slots.stopping()) == 1
    queue.close(timeout_s=SOON_S)
    assert not queue._supervisor.is_alive()


def test_a_submit_that_the_close_overtakes_starts_nothing():
    """A thread that got its request just before the close must not start it just after."""

    queue = InferQueue(compiled(networks.echo), 1)
    take = queue._slots.take

    def take_late(timeout_s):
        slot = take(timeout_s)
        queue.close()
        return slot

    queue._slots.take = take_late

    with pytest.raises(QueueClosedError):
        queue.submit(tensor(1))
    assert queue.in_flight == 0


@pytest.mark.parametrize("nonzero", [3, 2], ids=["success", "failure"])
def test_close_may_be_called_from_a_done_callback(nonzero):
    """Even on the queue's own thread, which announces failures."""
    queue = InferQueue(compiled(networks.picky), 1, check_every_s=0.002)
    closed = threading.Event()

    def close(_):
        queue.close()
        closed.set()

    queue.submit(tensor(1, nonzero=nonzero)).add_done_callback(close)

    assert closed.wait(SOON_S)
    eventually(lambda: not queue._supervisor.is_alive())


@in_child
def test_a_process_may_end_with_inferences_in_flight():
    """Nobody closed the queue; the interpreter goes down all the same, without a crash."""
    queue = InferQueue(compiled(networks.lasting), 2)
    for number in range(2):
        queue.submit(tensor(number, first=LONG))
