"""Why this project has an infer queue of its own: what OpenVINO's does, shown with OpenVINO alone.

A test that fails here is good news: an OpenVINO that behaves better. Then see what worker/infer_queue.py can leave out.
Each fact is shown in a child process, which it ends, hangs or spoils.
"""

import os
import signal
import threading
import time

import numpy as np
import openvino as ov
import pytest

from tests.hazards import networks
from tests.hazards.child import in_child, run
from tests.hazards.networks import compiled, number_of, tensor

#: Longest time that something which hangs for ever is watched; what does not hang takes a thousandth of it.
HANGS_S = 1.0

#: Runs that are cancelled before it counts as harmless; a third spoil the next one on an idle machine.
CANCELS = 500


def test_e1_a_callback_that_raises_ends_the_process():
    """AsyncInferQueue raises the callback's error at a later start, and then std::terminate is called."""
    ended = run(_raise_in_a_callback)

    assert "re-raised by start_async: from the callback" in ended.stdout
    assert ended.returncode == -signal.SIGABRT
    assert "terminate called" in ended.stderr


def _raise_in_a_callback() -> None:
    def callback(_request, _userdata):
        raise ValueError("from the callback")

    queue = ov.AsyncInferQueue(compiled(networks.echo), 1)
    queue.set_callback(callback)
    for _ in range(10):
        try:
            queue.start_async({0: tensor(1)}, None)
        except ValueError as error:
            print("re-raised by start_async:", error, flush=True)
    queue.wait_all()


@in_child
def test_e2_as_many_bad_tensors_as_requests_hang_the_queue():
    """AsyncInferQueue takes a request, then finds that the tensor does not fit, and never gives the request back."""
    queue = ov.AsyncInferQueue(compiled(networks.echo), 2)
    for _ in range(2):
        with pytest.raises((RuntimeError, ValueError), match=r"(?i)shape"):
            queue.start_async({0: tensor(1)[:, :1]}, None)

    good = threading.Thread(target=queue.start_async, args=({0: tensor(1)}, None), daemon=True)
    good.start()
    good.join(HANGS_S)
    assert good.is_alive(), "a good tensor was started after two bad ones"
    os._exit(0)  # the thread would not let the interpreter end


@in_child
def test_e3_a_failed_inference_never_calls_back():
    """AsyncInferQueue says nothing to the failed job's callback, and raises its error in somebody else's call."""
    called = []
    queue = ov.AsyncInferQueue(compiled(networks.picky), 1)
    queue.set_callback(lambda _request, userdata: called.append(userdata))
    queue.start_async({0: tensor(1, nonzero=2)}, "bad")
    with pytest.raises(RuntimeError, match="mismatch"):
        queue.wait_all()
    assert called == []
    os._exit(0)  # to end in the ordinary way now and then aborts


@in_child
def test_e5_an_output_that_is_kept_is_overwritten():
    """What a callback sees is a view of memory that the next run on the same request writes over."""
    kept = []
    queue = ov.AsyncInferQueue(compiled(networks.echo), 1)
    queue.set_callback(lambda request, _userdata: kept.append(request.get_output_tensor(0).data))
    for number in range(1, 6):
        queue.start_async({0: tensor(number)}, None)
        queue.wait_all()
    assert [number_of(one) for one in kept] == [5, 5, 5, 5, 5]
    os._exit(0)  # to end in the ordinary way now and then aborts


@in_child
def test_e7_a_cancelled_run_leaves_its_shapes_to_the_next():
    """InferRequest.cancel in the middle of a graph of dynamic shape: the next run gives the cancelled one's shape.

    So our queue never calls it. blazeface_short gave rows of another image after 3 in 100 cancels.
    """
    request = compiled(networks.rows, 1).create_infer_request()

    def count_rows(nonzero):
        request.infer({0: tensor(1, nonzero=nonzero)})
        return request.get_output_tensor(0).data.shape[0]

    count_rows(5)
    longest_s = 0.0
    for _ in range(3):
        began = time.monotonic()
        assert count_rows(5) == 5
        longest_s = max(longest_s, time.monotonic() - began)
    for attempt in range(CANCELS):
        assert count_rows(2) == 2
        request.start_async({0: tensor(1, nonzero=5)})
        time.sleep(longest_s * (attempt % 50) / 50)  # into the middle of the run, wherever on this machine that is
        request.cancel()
        try:
            request.wait()
        except RuntimeError:
            if count_rows(2) != 2:
                break
        assert count_rows(3) == 3  # another shape sets it right
    else:
        pytest.fail(f"{CANCELS} cancelled runs left nothing behind")


@in_child
def test_e8_a_failed_run_spoils_the_next_good_one_of_an_earlier_shape():
    """A tensor that worked before fails after a bad one, on any request of the compiled network, until a shape changes.

    Nothing in worker/ heals that; the heads' own graphs have no operation that fails for a shape.
    """

    def works(nonzero):
        try:
            network.create_infer_request().infer({0: tensor(1, nonzero=nonzero)})
        except RuntimeError:
            return False
        return True

    network = compiled(networks.resentful, 1)
    assert [works(3), works(3), works(2), works(3), works(3), works(1), works(3)] == [
        True, True, False, False, False, True, True,
    ]  # fmt: skip


@in_child
def test_e9_a_new_request_is_not_to_be_had_while_the_first_stream_is_busy():
    """CompiledModel.create_infer_request waits for a running inference: a replacement must be made beforehand."""
    network = compiled(networks.lasting, 1)
    request = network.create_infer_request()
    request.infer({0: tensor(1)})
    request.start_async({0: tensor(1, first=600)})
    time.sleep(0.02)  # until it runs; OpenVINO tells of the end alone
    began = time.monotonic()
    network.create_infer_request()
    made_after_s = time.monotonic() - began
    request.wait()
    ended_after_s = time.monotonic() - began
    assert made_after_s > ended_after_s / 2, "the new request was there before the inference ended"


def test_a_tensor_of_read_only_memory_is_refused():
    """What np.frombuffer gives cannot be shared with OpenVINO, so our queue copies it."""
    pixels = tensor(1)
    pixels.flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        ov.Tensor(pixels, shared_memory=True)
    assert ov.Tensor(np.require(pixels, requirements=["W"]), shared_memory=True).shape == list(networks.SHAPE)
