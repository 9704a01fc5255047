"""A job whose deadline has passed, or that was cancelled, costs no more work."""

import threading
import time
from dataclasses import replace

import pytest

from producer import blobs
from producer.errors import (
    Cancelled,
    DeadlineExceeded,
)
from tests.hazards import networks
from tests.unit.worker.detectors import PLAN, SOON_S, Open, ask, finish, picture, tiny
from tests.waiting import eventually
from worker import decode

# -------------------------------------------------------------------------------------------- deadline and cancel


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what is decoded; the decoder does its work."""
    seen: list[int] = []
    real = decode.decode

    def recorded(data, limits):
        seen.append(len(data))
        return real(data, limits)

    monkeypatch.setattr(decode, "decode", recorded)
    return seen


def test_a_job_whose_deadline_has_passed_is_not_even_fetched(start: Open, decodes):
    """Nobody waits for the answer any more; a missing image would otherwise say so."""
    detector = start(tiny(networks.echo))

    errors = finish(detector.start(ask(picture(), {"ref": blobs.new_key()}, deadline=time.time() - 0.001)))

    assert [type(error) for error in errors] == [DeadlineExceeded, DeadlineExceeded]
    assert decodes == []


def test_a_deadline_that_passes_while_the_image_is_fetched_saves_the_decoding(
    start: Open, decodes, monkeypatch, connection
):
    """It is looked at once more before the expensive part."""
    deadline, key, real = time.time() + 0.3, blobs.new_key(), blobs.read
    connection.set(key, picture()["data"])

    def slow_read(*args, **options):
        data = real(*args, **options)
        threading.Event().wait(max(0.0, deadline - time.time()) + 0.01)
        return data

    monkeypatch.setattr(blobs, "read", slow_read)

    (error,) = finish(start(tiny(networks.echo)).start(ask({"ref": key}, deadline=deadline)))

    assert isinstance(error, DeadlineExceeded)
    assert decodes == []


def test_a_job_in_time_is_not_touched_by_its_deadline(start: Open):
    """A minute is enough."""
    (rows,) = finish(start(tiny(networks.echo)).start(ask(picture(4), deadline=time.time() + 60)))

    assert networks.number_of(rows) == 4


def test_a_job_that_is_stopped_half_way_keeps_what_it_has(start: Open, decodes):
    """What is in flight ends at once, what has not begun never begins; every one of them says why."""
    detector = start(tiny(networks.lasting), requests=1, plan=replace(PLAN, decoders=1))
    detecting = detector.start(ask(picture(1), *(picture(number, first=400) for number in range(2, 12))))
    first_done = eventually(lambda: detecting.outcomes[0].done_at and detector.queues["tiny"].in_flight)
    assert first_done

    assert detecting.stop(DeadlineExceeded("The hard time limit was reached."))

    first, *others = finish(detecting)
    assert networks.number_of(first) == 1
    assert all(isinstance(error, DeadlineExceeded) for error in others)
    assert {error.message for error in others} == {"The hard time limit was reached."}
    assert len(decodes) < 5
    assert not detecting.stop(Cancelled())
    eventually(lambda: detector.queues["tiny"].free == 1)
    assert networks.number_of(finish(detector.start(ask(picture(99))))[0]) == 99


def test_a_cancelled_job_settles_while_its_inference_still_runs(start: Open):
    """The caller does not wait for what he does not want any more."""
    detector = start(tiny(networks.lasting), requests=1)
    detecting = detector.start(ask(picture(1, first=4800)))
    eventually(lambda: detector.queues["tiny"].in_flight)

    assert detecting.cancel()

    assert isinstance(finish(detecting)[0], Cancelled)
    assert detector.queues["tiny"].free == 0


def test_a_cancel_that_meets_the_submit_is_not_lost(start: Open):
    """The job is stopped after its last look and before its inference is known: it is cancelled all the same."""
    detector = start(tiny(networks.lasting), requests=1)
    queue = detector.queues["tiny"]
    real, stopped = queue.submit, []

    def submit(tensor, **options):
        flight = real(tensor, **options)
        stopped.append(detecting.cancel())
        return flight

    ready = threading.Event()
    queue.submit = lambda tensor, **options: ready.wait(SOON_S) and submit(tensor, **options)
    detecting = detector.start(ask(picture(1, first=1200)))
    ready.set()

    assert isinstance(finish(detecting)[0], Cancelled)
    assert stopped == [True]


def test_a_settled_job_cannot_be_cancelled(start: Open):
    """Its outcome stays."""
    detecting = start(tiny(networks.echo)).start(ask(picture(3)))
    (rows,) = finish(detecting)

    assert not detecting.cancel()
    assert networks.number_of(rows) == 3
    assert detecting.outcomes[0].error is None
