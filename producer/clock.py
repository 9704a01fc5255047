"""The clock that all times on the wire are told by: Redis's.

Stage: shared by every part of the client. A client's and a worker's own clocks may be hours apart; deadlines and the
order of jobs then still mean the same to both.
"""

import time


class ServerClock:
    """Redis's clock, as far as it is known: this host's until the first reply to ``TIME``. Any thread may use it."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def set(self, seconds: int, microseconds: int) -> None:
        """Take over a reply to Redis's ``TIME``; half a round trip late, which does not matter here."""
        self.offset_s = seconds + microseconds / 1e6 - time.time()

    def now(self) -> float:
        """Return seconds since 1970 by Redis's clock."""
        return time.time() + self.offset_s
