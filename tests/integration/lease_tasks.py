"""A user's task that takes its time and leaves a trace."""

import time

from celery import shared_task
from redis import Redis

from worker import settings


@shared_task(name="lease.nap")
def nap(seconds: float, name: str) -> str:
    """Note that it began, take ``seconds``, return ``name``."""
    with Redis.from_url(settings.load().url) as redis:
        redis.rpush("lease:begun", name)
    time.sleep(seconds)
    return name
