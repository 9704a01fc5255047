"""The clock that all times on the wire are told by: Redis's.

Stage: shared by clients and workers. Their own clocks may be hours apart; deadlines and the order of jobs then still
mean the same to both.
"""

import time


class ServerClock:
    """Redis's clock, as far as it is known: this host's until the first reply to ``TIME``. Any thread may use it.

    It goes on by the monotonic clock, so that setting the host's clock does not move it.
    """

    def __init__(self) -> None:
        self._zero_s = time.time() - time.monotonic()

    def set(self, seconds: int, microseconds: int) -> None:
        """Take over a reply to Redis's ``TIME``; half a round trip late, which does not matter here."""
        self._zero_s = seconds + microseconds / 1e6 - time.monotonic()

    def now(self) -> float:
        """Return seconds since 1970 by Redis's clock."""
        return time.monotonic() + self._zero_s

    def ahead_s(self) -> float:
        """Return by how many seconds Redis's clock is ahead of this host's."""
        return self.now() - time.time()
