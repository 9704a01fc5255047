"""The folder of compiled networks that workers share: one at a time fills it or reads from it.

Stage: at start, under :mod:`worker.network`. OpenVINO 2026.4 takes no care of others: a worker that maps a file which
another is just writing ends with SIGBUS, and one whose file was renamed under it with "cannot set permissions". Of
eight workers that started at once on an empty folder, one or two ended so in every fourth try.
"""

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

#: In the folder itself, which may be all that can be written.
LOCK = ".lock"

#: Longest wait for one's turn; then a network is compiled without the folder.
TURN_WITHIN_S = 60.0

_LOOK_EVERY_S = 0.02


@contextmanager
def turn(folder: Path | None, *, within_s: float = TURN_WITHIN_S) -> Iterator[bool]:
    """Have ``folder`` to oneself for the length of the block; False where that cannot be had, or there is no folder.

    A process that ends lets go, however it ends.
    """
    if folder is None:
        yield False
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("ab")
    except OSError as error:
        logger.warning("network.no_cache folder=%s error=%s", folder, error)
        yield False
        return
    with file:
        yield _locked(file, within_s)


def _locked(file: IO[bytes], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                logger.warning("network.no_cache folder=%s error=no turn within %g s", file.name, within_s)
                return False
        except OSError as error:  # a file system without locks
            logger.warning("network.no_cache folder=%s error=%s", file.name, error)
            return False
        time.sleep(_LOOK_EVERY_S)
