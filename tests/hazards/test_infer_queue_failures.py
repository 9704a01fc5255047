"""Callbacks that raise, tensors that do not fit and inferences that fail harm nobody else: facts E1-E3.

See tests/hazards/test_infer_queue.py.
"""

import contextlib
import logging
import random
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from tests.hazards import networks
from tests.hazards.child import Wrapped, in_child
from tests.hazards.networks import compiled, number_of, tensor
from tests.hazards.queues import SOON_S, answer, queue_of
from tests.waiting import eventually
from worker.inference import InferenceError, TensorError

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
