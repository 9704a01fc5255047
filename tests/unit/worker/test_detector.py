"""A process's detector: which model, how healthy and how busy, how it closes; and no thread waits for an inference."""

import collections
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import wait
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from redis import Redis

from producer import blobs, dead, wire
from producer.errors import (
    UnknownModel,
)
from producer.wire import Options
from tests.hazards import networks
from tests.hazards.child import Wrapped
from tests.unit.worker.conftest import Load
from tests.unit.worker.detectors import PLAN, SOON_S, Open, ask, codes, picture, tiny
from tests.waiting import eventually
from worker import models, network
from worker.ending import Remains
from worker.opening import open_detector
from worker.outcome import Request
from worker.settings import Settings

# ------------------------------------------------------------------------------------------------------ which model


def test_the_model_is_the_request_s_or_the_queue_s_or_the_only_one(start: Open):
    """In this order."""
    two, one = start(tiny(networks.echo, "a"), tiny(networks.picky, "b")), start(tiny(networks.echo, "only"))

    def chosen(detector, queue, asked):
        request = Request([picture()], Options(model=asked), model=queue)
        return detector.start(request).result(SOON_S)[0].network.spec.name

    assert chosen(two, "a", "b") == "b"
    assert chosen(two, "a", None) == "a"
    assert chosen(one, None, None) == "only"


@pytest.mark.parametrize(("queue", "asked"), [("a", "yolo"), ("yolo", None), (None, None), (None, "x" * 500)])
def test_a_model_that_is_not_loaded_is_refused_at_once(start: Open, queue, asked):
    """With the names of those that are."""
    detector = start(tiny(networks.echo, "a"), tiny(networks.echo, "b"))

    with pytest.raises(UnknownModel, match=r"it serves a, b\.$") as caught:
        detector.start(Request([picture()], Options(model=asked), model=queue))

    assert len(caught.value.message) < 200


# --------------------------------------------------------------------------------------- health, stats, housekeeping


def test_the_self_test_runs_every_network(start: Open, load: Load):
    """True when each of them gave an answer, False when one could not."""
    assert start(load("blazeface_short"), tiny(networks.echo)).check().result(SOON_S) is True
    assert start(tiny(networks.echo), tiny(networks.picky, "fails")).check().result(SOON_S) is False


def test_a_full_queue_needs_no_self_test(start: Open):
    """Jobs in flight prove more than a black image; the test does not wait behind them."""
    detector = start(tiny(networks.lasting), requests=1)
    busy = detector.start(ask(picture(1, first=600)))
    eventually(lambda: detector.queues["tiny"].in_flight)

    test = detector.check()

    assert test.done()
    assert test.result(0) is True
    assert not busy.done()


def test_a_closed_detector_is_not_healthy(start: Open):
    """A worker that goes down does not claim to be well."""
    detector = start(tiny(networks.echo))
    detector.close()

    assert detector.check().result(SOON_S) is False


def test_stats_say_what_is_loaded_and_how_busy_it_is(start: Open):
    """As plain JSON, for ``celery inspect stats``."""
    detector = start(tiny(networks.lasting), requests=2)
    detector.start(ask(picture(1, first=400)))
    eventually(lambda: detector.queues["tiny"].in_flight)

    stats = json.loads(json.dumps(detector.stats()))

    assert stats["tiny"]["digest"] == "0" * 16
    assert (stats["tiny"]["requests"], stats["tiny"]["in_flight"]) == (2, 1)


def test_finishing_a_job_removes_its_images_bytes_and_nothing_else(start: Open, connection):
    """Whatever stands in the message: no key of others can be removed through it."""
    mine, foreign = blobs.new_key(), f"other:{uuid.uuid4().hex}"
    connection.mset({mine: b"x", foreign: b"x"})

    images = [{"ref": mine}, {"ref": foreign}, {"data": b"x"}, "text", None, {"ref": 5}]
    start(tiny(networks.echo)).finish("job", Remains(None, blobs.refs_of([images])))

    assert (connection.exists(mine), connection.exists(foreign)) == (0, 1)


def test_a_worker_announces_the_models_that_it_serves(start: Open, connection):
    """Clients list them; each tells its digest, its input and its labels."""
    name = f"m{uuid.uuid4().hex}"

    start(tiny(networks.echo, name)).announce()

    said = json.loads(connection.hget(wire.MODELS_KEY, name))
    assert said["digest"] == "0" * 16
    assert (said["input_size"], said["labels"]) == ([2, 2], ["thing"])


def test_a_detector_opens_the_models_of_the_settings(store, server):
    """From the store to a detection, as the pool does it."""
    chosen = Settings(url=server, models=("blazeface_short",), model_store=store, precision="f32")

    detector = open_detector(chosen, PLAN)

    try:
        queue = detector.queues["blazeface_short"]
        assert queue.size == max(2, 2 * detector.networks["blazeface_short"].optimal_requests)
        assert detector.check().result(SOON_S)
    finally:
        detector.close()


# ------------------------------------------------------------------------------------------------------------ close


def test_closing_a_busy_detector_returns_and_settles_every_job(start: Open):
    """In flight, waiting for a request, waiting for a thread: all end as cancelled, and no thread is left."""
    before = set(threading.enumerate())
    detector = start(tiny(networks.lasting), requests=2)
    jobs = [detector.start(ask(*(picture(number, first=400) for number in range(4)))) for _ in range(5)]
    eventually(lambda: detector.queues["tiny"].in_flight == 2)

    began = time.monotonic()
    detector.close()

    assert time.monotonic() - began < 5
    assert all(job.done() for job in jobs)
    assert {code for job in jobs for code in codes(job)} == {"cancelled"}
    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert not any(name.startswith(("decode", "infer")) for name in started)
    detector.close()


def test_closing_is_no_incident(start: Open, caplog):
    """A deploy does not fill the log with tracebacks."""
    detector = start(tiny(networks.lasting), requests=1)
    job = detector.start(ask(*(picture(number, first=400) for number in range(6))))
    eventually(lambda: detector.queues["tiny"].in_flight)

    detector.close()

    assert job.done()
    assert "incident" not in caplog.text


# ---------------------------------------------------------------------------------- no thread waits for an inference


def test_no_thread_waits_for_an_inference_and_several_are_always_in_flight(start: Open, store, pictures):
    """Two hundred images through CenterFace, looked at every few milliseconds from outside.

    Threads of the detector may decode, submit, or wait for a free request, which is the back-pressure. None may sit
    in a wait for a result, and OpenVINO's own waiting calls are never made, but for the glance that does not wait.
    """
    forbidden = {"wait", "wait_for", "wait_all", "infer", "result", "exception"}
    calls: collections.Counter[str] = collections.Counter()
    glances = []

    def told_on(name):
        def call(real, *args):
            calls[name] += 1
            return real(*args)

        return call

    def wait_for(real, ms):
        glances.append(ms)
        return real(ms)

    spec, path = models.read("centerface", store)
    net = network.load(replace(spec, input_size=(256, 320)), path, Settings(precision="f32", streams=2), 2)
    wrapped = Wrapped(net.compiled, wait=told_on("wait"), infer=told_on("infer"), wait_for=wait_for)
    existing = {thread.ident for thread in threading.enumerate()}
    detector = start(replace(net, compiled=wrapped), requests=8)
    pixels = cv2.resize(cv2.imdecode(np.frombuffer(pictures["crowd"][0], np.uint8), cv2.IMREAD_COLOR), (320, 256))
    small = {"data": cv2.imencode(".jpg", pixels)[1].tobytes()}
    queue = detector.queues["centerface"]
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    in_flight = []

    jobs = [detector.start(ask(*[small] * 50)) for _ in range(4)]
    while wait(jobs, 0.003).not_done:
        in_flight.append(queue.in_flight)
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident not in existing and names.get(ident) != "infer-supervisor":
                seen.update(_functions(frame))

    assert all(outcome.error is None for job in jobs for outcome in job.result(0))
    assert {function for _, function in seen} & forbidden == set(), seen
    assert seen["preparing.py", "_prepare"] > 0
    assert calls == {}
    assert set(glances) <= {0}
    several = sum(count > 1 for count in in_flight)
    assert several > len(in_flight) * 0.8, in_flight
    assert max(in_flight) == 8


def _functions(frame: Any) -> Iterator[tuple[str, str]]:
    """Give file and function of every frame of a thread's stack."""
    while frame is not None:
        yield frame.f_code.co_filename.rpartition("/")[2], frame.f_code.co_name
        frame = frame.f_back


def test_a_job_that_cannot_be_buried_is_answered(start: Open, connection: Redis, monkeypatch) -> None:
    """Given a job that has ended two workers, when the dead list cannot be written, then it is tried once more."""

    def fails(*_: Any) -> None:
        raise ValueError("no list")

    monkeypatch.setattr(dead, "add", fails)
    connection.set(wire.BEGUN_PREFIX + "job-unburied", 2)
    assert codes(start(tiny(networks.echo)).start(ask(picture(), job_id="job-unburied"))) == [""]
