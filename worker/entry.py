"""Where ``fleet-worker`` begins: it says what to install where only the client is.

Stage: before :mod:`worker.cli`, which needs the extra ``worker``.
"""

import gc
import importlib
import sys


def main() -> None:
    """Run the command line.

    What is imported stays, so Python's collector is kept from looking through it, then and at the end: of the second
    that ``fleet-worker --help`` took that was a quarter.
    """
    gc.disable()
    try:
        cli = importlib.import_module("worker.cli")
    except ModuleNotFoundError as error:
        sys.exit(f'fleet-worker needs more than the client ({error}): pip install "detection-fleet[local]"')
    finally:
        gc.enable()
    gc.freeze()
    cli.main(prog_name="fleet-worker")
