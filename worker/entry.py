"""Where ``fleet-worker`` begins: it says what to install where only the client is.

Stage: before :mod:`worker.cli`, which needs the extra ``worker``.
"""

import importlib
import sys

from worker.lean import lean


def main() -> None:
    """Run the command line."""
    try:
        with lean():
            cli = importlib.import_module("worker.cli")
    except ModuleNotFoundError as error:
        sys.exit(f'fleet-worker needs more than the client ({error}): pip install "detection-fleet[local]"')
    cli.main(prog_name="fleet-worker")
