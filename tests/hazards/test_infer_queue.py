"""What ends, hangs or corrupts openvino.AsyncInferQueue does none of it to ours; what each test is about: facts E1-E6.

The networks are real and tiny (tests/hazards/networks.py). What could crash the interpreter runs in a child process.
"""

import contextlib
import gc
import logging
import random
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from tests.hazards import networks
from tests.hazards.child import Wrapped, in_child
from tests.hazards.networks import compiled, number_of, tensor
from tests.waiting import eventually
from worker.infer_queue import InferQueue
from worker.inference import Inference, InferenceError, QueueClosedError, TensorError
from worker.slots import Slots

#: Longest wait for what takes milliseconds on a machine that has nothing else to do.
SOON_S = 20.0

#: Rounds of the lasting network that take a good part of a second.
LONG = 600


@contextlib.contextmanager
def queue_of(network: Any, requests: int = 2, **options: Any) -> Iterator[InferQueue]:
    """Open a queue for a network, by the function that builds it or compiled, for the length of the block."""
    queue = InferQueue(compiled(network) if isinstance(network, FunctionType) else network, requests, **options)
    try:
        yield queue
    finally:
        queue.close()


def answer(queue: InferQueue, number: int) -> int:
    """Run one inference and return the number that came back."""
    return number_of(queue.submit(tensor(number), timeout_s=SOON_S).result(SOON_S))


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


# ---------------------------------------------------------------------------------- E1: callbacks that raise


@in_child
def test_e1_a_done_callback_that_raises_harms_neither_process_nor_queue():
    """AsyncInferQueue re-raises at the next start and then aborts the process."""

    raised_in, told = [], []
    handler = logging.Handler()
    handler.emit = told.append
    logging.getLogger("worker.infer_queue").addHandler(handler)

    def spoil(error):
        def callback(_):
            raised_in.append(threading.current_thread())
            raise error

        return callback

    with queue_of(networks.lasting) as queue:
        for number, error in enumerate([ValueError(), SystemExit(3), KeyboardInterrupt(), MemoryError()] * 25):
            flight = queue.submit(tensor(number, first=5), timeout_s=SOON_S)
            with contextlib.suppress(BaseException):  # one that is settled already calls back here
                flight.add_done_callback(spoil(error))
            assert number_of(flight.result(SOON_S)) == number
        eventually(lambda: queue.free == queue.size)
        assert sum(thread is not threading.main_thread() for thread in raised_in) > 50
        assert {record.getMessage() for record in told} == {"inference.callback_failed"}


@in_child
def test_e1_outputs_that_cannot_be_read_fail_their_own_job_only():
    """Nothing that happens inside of the callback leaves it."""
    asked = iter(range(1_000_000))

    def get_output_tensor(real, index):
        if next(asked) % 3 == 0:
            raise MemoryError("no memory for a copy")
        return real(index)

    with queue_of(Wrapped(compiled(networks.echo), get_output_tensor=get_output_tensor)) as queue:
        flights = [queue.submit(tensor(number), timeout_s=SOON_S) for number in range(60)]
        problems = [flight.exception(SOON_S) for flight in flights]

        assert sum(isinstance(problem, InferenceError) for problem in problems) == 20
        assert "no memory for a copy" in str(next(problem for problem in problems if problem))
        for number, (flight, problem) in enumerate(zip(flights, problems, strict=True)):
            assert problem is not None or number_of(flight.result()) == number
        assert (queue.free, queue.in_flight) == (queue.size, 0)


def test_e1_the_supervisor_outlives_done_callbacks_of_failed_inferences_that_exit():
    """A failure is announced by the queue's own thread: a callback that exits takes neither it nor the others along."""
    with queue_of(networks.picky, 3, check_every_s=0.05) as queue:
        flights = [queue.submit(tensor(0, nonzero=2), timeout_s=SOON_S) for _ in range(3)]
        for flight in flights:
            flight.add_done_callback(lambda _: sys.exit("a callback that exits"))

        assert all(isinstance(flight.exception(SOON_S), InferenceError) for flight in flights)
        assert answer(queue, 7) == 7


# -------------------------------------------------------------------------------------- E2: tensors that do not fit


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (np.zeros((1, 2, 3, 2), np.uint8), r"expected \(1, 2, 2, 3\) uint8, got \(1, 2, 3, 2\) uint8"),
        (np.zeros((2, 2, 3), np.uint8), r"got \(2, 2, 3\) uint8"),
        (np.zeros((0, 2, 2, 3), np.uint8), r"got \(0, 2, 2, 3\) uint8"),
        (np.zeros((), np.uint8), r"got \(\) uint8"),
        (tensor(1).astype(np.float32), r"got \(1, 2, 2, 3\) float32"),
        (tensor(1).astype(np.int8), r"got \(1, 2, 2, 3\) int8"),
        (tensor(1).astype(object), r"got \(1, 2, 2, 3\) object"),
        (tensor(1).tolist(), "expected an array, not list"),
        (None, "expected an array, not NoneType"),
        (b"\x00" * 12, "expected an array, not bytes"),
    ],
    ids=["shape", "rank", "empty", "scalar", "float", "signed", "object", "list", "none", "bytes"],
)
def test_e2_a_tensor_that_does_not_fit_is_refused_and_no_request_is_lost(bad, told):
    """AsyncInferQueue takes a request first and never gives it back: as many bad tensors as requests hang it."""
    with queue_of(networks.echo, 2) as queue:
        for _ in range(5):
            with pytest.raises(TensorError, match=told):
                queue.submit(bad, timeout_s=SOON_S)

        assert (queue.free, queue.in_flight) == (2, 0)
        assert [answer(queue, number) for number in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    "twist",
    [
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=2)[:, :, ::2],
        lambda array: array[..., ::-1].copy()[..., ::-1],
        lambda array: np.frombuffer(array.tobytes(), np.uint8).reshape(array.shape),
    ],
    ids=["fortran", "strided", "backwards", "read-only"],
)
def test_e2_arrays_that_lie_in_memory_in_another_way_give_the_same_answer(twist):
    """OpenVINO would read a strided array's memory in the wrong order and refuses a read-only one."""
    with queue_of(networks.echo) as queue:
        assert answer(queue, 0x12345678) == number_of(queue.submit(twist(tensor(0x12345678))).result(SOON_S))
        assert number_of(queue.submit(twist(tensor(99))).result(SOON_S)) == 99


def test_e2_a_request_that_openvino_refuses_to_start_comes_back():
    """Whatever fails between taking a request and starting it gives the request back."""
    refusals = iter([True, False, True, True, False])

    def start_async(real):
        if next(refusals):
            raise RuntimeError("no")
        real()

    with queue_of(Wrapped(compiled(networks.echo), start_async=start_async), 1) as queue:
        for number, refused in enumerate([True, False, True, True, False]):
            if refused:
                with pytest.raises(InferenceError, match="did not start the inference: no"):
                    queue.submit(tensor(number), timeout_s=SOON_S)
            else:
                assert number_of(queue.submit(tensor(number), timeout_s=SOON_S).result(SOON_S)) == number
            eventually(lambda: (queue.free, queue.in_flight) == (1, 0))


# ---------------------------------------------------------------------------------------- E3: inferences that fail


def test_e3_a_failed_inference_is_told_and_its_neighbours_are_right():
    """AsyncInferQueue never calls back, and raises the old error at a later start of another job."""
    with queue_of(networks.picky, 2, check_every_s=0.005) as queue:
        flights = {
            number: queue.submit(tensor(number, nonzero=2 if number % 4 == 1 else 3), timeout_s=SOON_S)
            for number in range(40)
        }

        for number, flight in flights.items():
            if number % 4 == 1:
                with pytest.raises(InferenceError, match="OpenVINO could not run the network"):
                    flight.result(SOON_S)
            else:
                assert number_of(flight.result(SOON_S)) == number
        assert (queue.free, queue.in_flight) == (2, 0)


def test_e3_a_request_whose_last_inference_failed_is_as_good_as_new():
    """One request fails and succeeds in turns: no error and no output of one run is seen in the next."""
    with queue_of(networks.picky, 1, check_every_s=0.002) as queue:
        for number in range(20):
            assert isinstance(queue.submit(tensor(number, nonzero=2)).exception(SOON_S), InferenceError)
            assert answer(queue, number + 100) == number + 100


def test_e3_a_thousand_bad_among_a_thousand_good_leave_every_good_one_right():
    """Wrong shapes, wrong dtypes, failed inferences and cancelled ones, from six threads, over three requests."""

    def one(queue, number):
        kind = number % 8
        if kind == 0:
            with pytest.raises(TensorError):
                queue.submit(tensor(number)[:, :1], timeout_s=SOON_S)
        elif kind == 2:
            with pytest.raises(TensorError):
                queue.submit(tensor(number).astype(np.float32), timeout_s=SOON_S)
        elif kind == 4:
            flight = queue.submit(tensor(number, nonzero=2), timeout_s=SOON_S)
            assert isinstance(flight.exception(SOON_S), InferenceError)
        elif kind == 6:
            flight = queue.submit(tensor(number), timeout_s=SOON_S)
            if flight.cancel():
                assert isinstance(flight.exception(SOON_S), CancelledError)
            else:
                assert number_of(flight.result(SOON_S)) == number
        else:
            assert answer(queue, number) == number
            return 1
        return 0

    numbers = list(range(2000))
    random.Random(5).shuffle(numbers)
    with queue_of(networks.picky, 3, check_every_s=0.001) as queue, ThreadPoolExecutor(6) as threads:
        good = sum(threads.map(lambda number: one(queue, number), numbers))

        assert good == 1000
        eventually(lambda: (queue.free, queue.in_flight) == (3, 0))
        assert [answer(queue, number) for number in range(6)] == list(range(6))


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
        flight = queue.submit(tensor(1, first=100))
        assert flight.infer_s == 0.0

        flight.result(SOON_S)

        assert flight.waited_s < 0.1
        assert 0.005 < flight.infer_s < SOON_S


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
