"""Records what workers that run already do for a few seconds, whatever their clients send.

Stage: behind ``fleet-worker timeline``; asks workers over :mod:`worker.remote`. Needs no OpenVINO.
"""

import time
from typing import Any

from celery import Celery

from producer.redis_url import tls_of
from worker.timeline import Recording, RecordingError
from worker.trail import Passage

#: Longest wait for the answer of a worker.
ANSWER_WITHIN_S = 10.0


def record_workers(url: str, seconds: float, worker: str | None = None) -> list[Recording]:
    """Record what workers do from now on, whatever their clients send.

    Args:
        url: the fleet's Redis.
        seconds: for how long.
        worker: name of the one to record; None means all that answer.

    Raises:
        RecordingError: no worker answered, or none had anything to do.
    """
    with Celery("timeline", broker=url, broker_use_ssl=tls_of(url), set_as_current=False) as app:
        clocks = {name: answer["now"] for name, answer in _ask(app, worker, since=time.time()).items()}
        time.sleep(seconds)
        answers = {name: _ask(app, name, since=clock)[name] for name, clock in clocks.items()}
    found = [_recording(name, answer) for name, answer in sorted(answers.items()) if len(answer["passages"]) > 1]
    if not found:
        raise RecordingError(f"No worker did anything in {seconds:g} s. Send images meanwhile, or give photos.")
    return found


def _ask(app: Celery, worker: str | None, *, since: float) -> dict[str, Any]:
    """Ask for passages; all workers have a second to answer, a named one has longer."""
    inspect = app.control.inspect(destination=worker and [worker], timeout=ANSWER_WITHIN_S if worker else 1.0)
    answers: dict[str, Any] | None = inspect._request("fleet_passages", since=since)  # noqa: SLF001 - how Celery's own command asks
    if not answers:
        raise RecordingError(f"No answer from {worker or 'any worker'}; is it running, and on this Redis?")
    return answers


def _recording(name: str, answer: dict[str, Any]) -> Recording:
    passages = [Passage(**one) for one in answer["passages"]]
    model = passages[0].model  # one picture shows one model's requests
    mine = [one for one in passages if one.model == model]
    return Recording(name, mine, answer["requests"].get(model, 0))


def record_since(url: str, begin: float, name: str) -> Recording:
    """Record what the one worker of a fleet has done since ``begin``, by its own clock, under another name.

    Raises:
        RecordingError: no worker answered.
    """
    with Celery("timeline", broker=url, broker_use_ssl=tls_of(url), set_as_current=False) as app:
        (answer,) = _ask(app, None, since=begin).values()
    return _recording(name, answer)
