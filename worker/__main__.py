"""``python -m worker [OPTIONS]`` is ``celery -A worker.app worker [OPTIONS]``, and ready sooner.

Stage: where a worker's process begins. Neighbour: :mod:`worker.starting`, which knows Celery.
"""

import importlib
import sys

from worker.lean import lean

if __name__ == "__main__":
    with lean():
        starting = importlib.import_module("worker.starting")
    starting.start(sys.argv[1:])
