"""From settings to a detector that can work: which versions to load, and the way to Redis.

Stage: at start, above :mod:`worker.detector`; :mod:`worker.pool` calls it.
"""

import logging
from pathlib import Path

from redis.exceptions import RedisError

from worker import models, network, versions
from worker.cpu import Plan
from worker.detector import Detector, connect
from worker.memory import give_back_large_blocks
from worker.model_toml import ModelSpec
from worker.settings import Settings

logger = logging.getLogger(__name__)


def open_detector(settings: Settings, plan: Plan) -> Detector:
    """Read, compile and warm up every model of ``settings``, then start the threads.

    Raises:
        models.ModelError: a model cannot be loaded.
    """
    give_back_large_blocks()
    wanted = _wanted(settings.url)
    networks = [
        network.load(*_chosen(name, wanted.get(name), settings), settings, plan.threads) for name in settings.models
    ]
    return Detector(networks, settings, plan)


def _wanted(url: str) -> dict[str, versions.Wanted]:
    """Read which versions the fleet serves; when Redis is away, :mod:`worker.change` follows as soon as it is back."""
    try:
        with connect(url, connections=1) as redis:
            return versions.read(redis)
    except RedisError as error:
        logger.info("versions.not_read error=%s", error)
        return {}


def _chosen(name: str, wanted: versions.Wanted | None, settings: Settings) -> tuple[ModelSpec, Path]:
    """Find the version of ``name`` that the fleet serves; the store's own where nobody ever changed it.

    Raises:
        ModelError: this host's store has not got it.
    """
    if wanted is None:
        return models.read(name, settings.model_store)
    label, digest = f"{name}@{wanted.current.number}", wanted.current.digest
    mend = f"The fleet serves {label} (digest {digest}): add it here, or run: fleet-worker models swap NAME@NUMBER"
    try:
        spec, path = models.read(label, settings.model_store)
    except models.ModelError as error:
        raise models.ModelError(f"{error} {mend}") from error
    if (found := models.digest(path)) != digest:
        raise models.ModelError(f"{label} in {settings.model_store} has the digest {found}. {mend}")
    return spec, path
