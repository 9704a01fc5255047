"""Where ``fleet-worker`` and ``python -m worker`` begin: they say what to install where only the client is.

Stage: before :mod:`worker.cli` and :mod:`worker.starting`, which need the extra ``worker``.
"""

import importlib
import sys
from typing import Any

from worker.lean import lean


def load(name: str) -> Any:
    """Import a module leanly; end this process with a sentence where something is not installed."""
    try:
        with lean():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        sys.exit(f'fleet-worker needs more than the client ({error}): pip install "detection-fleet[local]"')


def main() -> None:
    """Run the command line."""
    load("worker.cli").main(prog_name="fleet-worker")
