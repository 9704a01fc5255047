"""``python -m worker [OPTIONS]`` is ``celery -A worker.app worker [OPTIONS]``, and ready sooner.

Stage: where a worker's process begins. Neighbour: :mod:`worker.starting`, which knows Celery.
"""

import sys

from worker.entry import load

if __name__ == "__main__":
    load("worker.starting").start(sys.argv[1:], "python -m worker")
