"""Signals that end the worker now only say so; what there is to do is done between two turns of the event loop.

Stage: under :mod:`worker.pool`. Celery gives all jobs up inside the signal's handler, in the middle of whatever the
loop does just then. It sends an event for each, for which it takes a lock; where the loop was sending events, it has
that lock, and the worker waits for itself until somebody kills it. A second SIGTERM does not end Celery's worker.

Mirrors celery 5.7 ``celery.apps.worker``: ``_shutdown_handler``, ``on_SIGINT``, ``REMAP_SIGTERM``.
"""

import sys
from collections.abc import Callable
from typing import Any

from celery import signals
from celery.apps.worker import REMAP_SIGTERM, safe_say
from celery.exceptions import WorkerTerminate
from celery.platforms import EX_FAILURE
from celery.platforms import signals as handlers
from celery.worker import state

from worker.insist import last_words


class Stops:
    """What a signal does. Its methods run at any moment in the main thread, so they take no lock and do not wait.

    Args:
        wake: wakes the loop, which then looks at ``state.should_stop`` and ``should_terminate``.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def install(self) -> None:
        """Take SIGQUIT over from Celery; of SIGTERM and SIGINT the first stays Celery's, the second ends it now."""
        signals.worker_shutting_down.connect(self._on_told)
        handlers["SIGQUIT"] = self.now
        if REMAP_SIGTERM == "SIGQUIT":
            handlers["SIGTERM"] = self.now

    def now(self, *_: object) -> None:
        """Say that the worker ends now; said again before it has, it ends wherever it is.

        Raises:
            WorkerTerminate: it was said already.
        """
        if state.should_terminate:
            raise WorkerTerminate(EX_FAILURE)
        state.should_terminate = EX_FAILURE
        last_words.end()
        safe_say("worker: Cold shutdown (MainProcess)", sys.__stdout__)
        self._wake()

    def _on_told(self, sig: str = "", **_: Any) -> None:
        handlers[sig] = self.now
        self._wake()
