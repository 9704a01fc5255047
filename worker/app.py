"""The Celery application of the workers: ``celery -A worker.app worker``.

Stage: start. Neighbours: ``celeryconfig.py`` has Celery's keys that are the same everywhere; it stands at the top of
the project and is linked into this package, so that a celeryconfig.py in a user's folder is never taken for it. Keys
that depend on ``FLEET_*`` are given here as defaults, read when Celery first asks and not at import.
"""

import sys
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

import worker.remote  # noqa: F401 - registers what a worker answers, for the asking command as well
from producer import wire
from producer.address import SENTINEL_SCHEME, SentinelAddress, sentinel_options
from producer.redis_url import tls_of
from worker import codecs, cpu, logs, settings
from worker.bootsteps import LeaseRenewal, SweepStep
from worker.control import ControlGuard
from worker.health import HealthStep
from worker.observe import ObserveStep
from worker.swaps import ChangeStep
from worker.turns import FairPlacesStep

#: Queue of tasks that are not detections: a user's own tasks in the same workers.
OTHER_QUEUE = "fleet"

#: Seconds between two of kombu's own checks of a connection, for the answer to anything, and to connect. A server that
#: is slow is asked again; a connection that a firewall forgot gives no other sign.
SILENCE_S = 3
ANSWER_S = 2.5
CONNECT_S = 3


def keys() -> dict[str, Any]:
    """Give the Celery keys that follow from the settings of this process.

    Raises:
        SystemExit: the settings are bad; its text says how. Celery asks in the middle of its own start, and would show
            anything else with a traceback.
    """
    try:
        chosen = settings.load()
    except settings.SettingsError as error:
        sys.exit(f"{error}")
    return {
        "broker_url": _celery_url(chosen.url),
        "result_backend": _celery_url(chosen.url),
        "broker_use_ssl": tls_of(chosen.url),
        "redis_backend_use_ssl": tls_of(chosen.url),
        "task_default_queue": OTHER_QUEUE,
        "task_queues": [_queue(wire.queue_of(model)) for model in chosen.models] + [_queue(OTHER_QUEUE)],
        "broker_transport_options": {
            **_sentinel(chosen.url),
            # What a dead worker held comes back after this; worker.bootsteps keeps what a live one holds.
            "visibility_timeout": chosen.lease_s,
            # Look for such messages every second; kombu's own rhythm is ten seconds, every tenth time.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            # Held for milliseconds by whoever looks; kombu's five minutes would pass if that connection were lost.
            "unacked_mutex_expire": 5,
            "health_check_interval": SILENCE_S,
            "socket_timeout": ANSWER_S,
            "socket_connect_timeout": CONNECT_S,
            "socket_keepalive": True,
        },
        "result_backend_transport_options": _sentinel(chosen.url),
        "worker_concurrency": cpu.make_plan(chosen).jobs,
    }


def _celery_url(url: str) -> str:
    return SentinelAddress.parse(url).celery_url(url) if url.startswith(SENTINEL_SCHEME) else url


def _sentinel(url: str) -> dict[str, Any]:
    """Say which group the Sentinels are to be asked for, and how patiently."""
    if not url.startswith(SENTINEL_SCHEME):
        return {}
    asking = sentinel_options(Retry(NoBackoff(), 0))
    return {"master_name": SentinelAddress.parse(url).master, "sentinel_kwargs": asking}


def _queue(name: str) -> Queue:
    """Name exchange and key as Celery does for a queue it is not told about, so that any program's messages arrive."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


codecs.install()
logs.follow()
app = Celery(
    "fleet",
    include=["worker.tasks"],
    amqp="worker.broker:FleetAMQP",
    control="worker.mingle:FleetControl",
    events="worker.dispatcher:FleetEvents",
)
app.config_from_object("worker.celeryconfig")
app.add_defaults(keys)
app.steps["consumer"].add(LeaseRenewal)
app.steps["consumer"].add(ControlGuard)
app.steps["worker"].add(FairPlacesStep)
app.steps["worker"].add(SweepStep)
app.steps["worker"].add(ObserveStep)
app.steps["worker"].add(ChangeStep)
app.steps["worker"].add(HealthStep)
