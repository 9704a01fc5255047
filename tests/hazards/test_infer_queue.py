"""What ends, hangs or corrupts openvino.AsyncInferQueue does none of it to ours: facts E4-E6, and back-pressure.

E1-E3 are in test_infer_queue_failures.py. The networks are real and tiny (tests/hazards/networks.py). What could
crash the interpreter runs in a child process.
"""

import gc
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.hazards import networks
from tests.hazards.child import Wrapped, in_child
from tests.hazards.networks import compiled, number_of, tensor
from tests.hazards.queues import LONG, SOON_S, answer, queue_of
from tests.waiting import eventually
from worker.infer_queue import InferQueue
from worker.inference import InferenceError

# ------------------------------------------------------------------------------- Python's state of OpenVINO's thread


@in_child
def test_openvinos_thread_keeps_its_state_of_pythons():
    """pybind11 makes one for each callback; what Python keeps for a thread would be gone at the next."""
    here, counts = threading.local(), []

    def count(_):
        here.count = getattr(here, "count", 0) + 1
        if threading.get_ident() != threading.main_thread().ident:
            counts.append(here.count)

    with queue_of(networks.lasting) as queue:
        for number in range(20):
            flight = queue.submit(tensor(number, first=20), timeout_s=SOON_S)
            flight.add_done_callback(count)
            flight.result(SOON_S)
        eventually(lambda: queue.free == queue.size)
    assert len(counts) > 10
    assert max(counts) == len(counts)


# ---------------------------------------------------------------------------- E4: submits from several threads at once


@in_child
def test_e4_eight_threads_get_each_their_own_results():
    """AsyncInferQueue crashes, hangs, loses jobs or gives results to the wrong one."""
    at_once = threading.Barrier(8)

    def submit_many(thread):
        at_once.wait(SOON_S)
        numbers = range(thread * 500, thread * 500 + 500)
        flights = [queue.submit(tensor(number), timeout_s=SOON_S) for number in numbers]
        return [number_of(flight.result(SOON_S)) for flight in flights] == list(numbers)

    with queue_of(networks.echo, 4) as queue, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(submit_many, range(8)))
        eventually(lambda: (queue.free, queue.in_flight) == (4, 0))


# ------------------------------------------------------------------------------------------------ E5: kept outputs


def test_e5_an_output_that_is_kept_stays_as_it_was():
    """OpenVINO's own output is a view of memory that the next run on the same request writes over."""
    with queue_of(networks.echo, 1) as queue:
        kept = queue.submit(tensor(1)).result(SOON_S)

        others = [queue.submit(tensor(number), timeout_s=SOON_S).result(SOON_S) for number in range(2, 50)]

        assert number_of(kept) == 1
        assert [number_of(other) for other in others] == list(range(2, 50))
        assert kept.flags.owndata
        assert kept.flags.writeable


def test_e5_a_tensor_lives_as_long_as_openvino_reads_it():
    """The caller may forget the array, even cancel, while the request still runs on its memory."""
    with queue_of(networks.lasting, 1) as queue:
        pixels = tensor(5, first=8 * LONG)
        alive = weakref.ref(pixels)
        gc.collect()  # now, for it takes its time, and the run does not last for ever
        flight = queue.submit(pixels)
        flight.cancel()
        del pixels, flight

        assert (alive() is not None, queue.free) == (True, 0)
        eventually(lambda: queue.free == 1)


def test_e5_a_settled_inference_keeps_no_tensor():
    """A result that is kept does not keep the pixels it was made from."""
    with queue_of(networks.echo, 1) as queue:
        flight = queue.submit(tensor(5))
        flight.result(SOON_S)

        assert flight.tensor is None


# ---------------------------------------------------------------------------------------- E6: slow done callbacks


def test_e6_a_slow_done_callback_holds_no_request():
    """While it lingers its request is free, its result is there, and the next inference has been started."""
    entered, leave = threading.Event(), threading.Event()

    def linger(_):
        entered.set()
        leave.wait(SOON_S)

    with queue_of(networks.lasting, 1) as queue:
        try:
            first = queue.submit(tensor(1, first=100))
            first.add_done_callback(linger)
            assert entered.wait(SOON_S)

            assert queue.free == 1
            assert number_of(first.result(0)) == 1
            second = queue.submit(tensor(2), timeout_s=0.0)
        finally:
            leave.set()
        assert number_of(second.result(SOON_S)) == 2


# -------------------------------------------------------------------- the moment between one run and the next


@in_child
def test_a_request_started_again_from_within_its_callback_never_loses_a_completion():
    """20,000 runs on one request, each started by the end of the one before; nothing but the callback may notice.

    OpenVINO takes a request's callback out while it runs and puts it back after.
    """
    finished = threading.Event()
    seen = []

    def again(flight):
        seen.append(number_of(flight.result()))
        if len(seen) < 20_000:
            start(len(seen))
        else:
            finished.set()

    def start(number):
        queue.submit(tensor(number), timeout_s=SOON_S).add_done_callback(again)

    queue = InferQueue(compiled(networks.echo), 1, check_every_s=3600)  # a supervisor that never helps
    sys.setrecursionlimit(100_000)  # a run that ends before its callback is added calls it at once, inside of this one
    start(0)
    assert finished.wait(50), f"lost after {len(seen)}"
    assert seen == list(range(20_000))


@in_child
def test_a_request_started_again_from_another_thread_never_loses_a_completion():
    """10,000 runs on one request, from two threads that wait for each other's turn to end."""
    queue = InferQueue(compiled(networks.echo), 1, check_every_s=3600)

    def run(thread):
        return all(answer(queue, number) == number for number in range(thread, 10_000, 2))

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(run, range(2)))


def test_a_request_that_is_about_to_start_is_not_judged_by_its_last_run():
    """A thread that is held up just before it starts a request finds it neither settled nor failed."""
    held = threading.Event()
    runs = iter(range(100))

    def start_async(real):
        if next(runs):
            held.wait(0.1)  # a hundred looks of the supervisor
        real()

    wrapped = Wrapped(compiled(networks.picky), start_async=start_async)
    with queue_of(wrapped, 1, check_every_s=0.001) as queue:
        assert answer(queue, 1) == 1
        assert answer(queue, 2) == 2
        assert isinstance(queue.submit(tensor(3, nonzero=2)).exception(SOON_S), InferenceError)
        assert answer(queue, 4) == 4
        assert queue.free == 1


# ------------------------------------------------------------------------------------ back-pressure and timeouts


def test_submit_waits_while_all_requests_are_in_flight_and_goes_on_when_one_ends():
    """That wait is the back-pressure: whoever decodes images decodes no more than can be inferred."""
    with queue_of(networks.lasting, 2) as queue, ThreadPoolExecutor(1) as thread:
        longer, shorter = queue.submit(tensor(1, first=3 * LONG)), queue.submit(tensor(2, first=LONG // 2))
        third = thread.submit(queue.submit, tensor(3))

        assert (queue.free, queue.in_flight) == (0, 2)
        assert not third.done()
        shorter.result(SOON_S)
        flight = third.result(SOON_S)

        assert number_of(flight.result(SOON_S)) == 3
        assert 0 < flight.waited_s < shorter.infer_s + 1
        assert not longer.done()
        assert number_of(longer.result(SOON_S)) == 1


def test_submit_gives_up_after_its_timeout_and_loses_nothing():
    """A caller that does not want to wait for ever does not."""
    with queue_of(networks.lasting, 1) as queue:
        flight = queue.submit(tensor(1, first=LONG))

        for timeout_s in (0.0, 0.02):
            with pytest.raises(TimeoutError, match=f"no infer request became free within {timeout_s} s"):
                queue.submit(tensor(2), timeout_s=timeout_s)

        assert number_of(flight.result(SOON_S)) == 1
        assert answer(queue, 3) == 3


def test_an_inference_tells_how_long_it_waited_and_ran():
    """The two times of a result come from here."""
    with queue_of(networks.lasting, 1) as queue:
        began = time.monotonic()
        flight = queue.submit(tensor(1, first=100))
        assert flight.infer_s == 0.0

        flight.result(SOON_S)
        took = time.monotonic() - began

        assert 0 <= flight.waited_s < flight.waited_s + flight.infer_s <= took
