"""Frames of a live source: out as they are taken, back in order, none older than a limit.

Stage: between :mod:`producer.camera` and the command ``fleet watch``. It knows no OpenCV. A source that is faster than
the fleet loses frames here, and each is counted; it never falls behind.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol, Unpack

from producer.answers import is_about_one
from producer.client import Client
from producer.errors import DeadlineExceeded, FleetError, Overloaded
from producer.job import Job
from producer.requests import SubmitOptions
from producer.wire import Result

#: A source that hangs is left behind after this.
STOP_WITHIN_S = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame of a live source.

    Attributes:
        number: from 0, dropped ones counted.
        taken_at: by ``time.monotonic``.
        time_s: since the source was opened.
        pixels: what the source's ``encode`` takes.
    """

    number: int
    taken_at: float
    time_s: float
    pixels: Any

    def age_s(self) -> float:
        """Tell how long ago it was taken."""
        return time.monotonic() - self.taken_at


class Source(Protocol):
    """What :class:`producer.camera.Camera` is."""

    def shots(self) -> Iterator[Shot]:
        """Give shots as they are taken; read by one thread."""
        ...

    def close(self) -> None:
        """Let ``shots`` end; called from another thread."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A shot and what was found in it, or why nothing was."""

    shot: Shot
    result: Result | None = None
    error: FleetError | None = None


@dataclass(slots=True)
class Counts:
    """What became of the shots; together they are all that were taken, less those under way.

    Attributes:
        taken: by the source.
        answered: given back, failed ones included.
        skipped: never sent, since a newer one was there or the fleet's queue was full.
        late: sent, and not answered within the limit.
    """

    taken: int = 0
    answered: int = 0
    skipped: int = 0
    late: int = 0

    @property
    def dropped(self) -> int:
        """Shots that were not given back."""
        return self.skipped + self.late


class Newest:
    """A place for one shot: a newer one takes the place of an older one. Thread-safe."""

    def __init__(self) -> None:
        self._shot: Shot | None = None
        self._ended = False
        self._changed = threading.Condition()

    def put(self, shot: Shot) -> bool:
        """Leave ``shot``; True when it took the place of one that nobody had taken."""
        with self._changed:
            replaced, self._shot = self._shot is not None, shot
            self._changed.notify()
            return replaced

    def end(self) -> None:
        """Say that no more come."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take(self) -> Shot | None:
        """Wait for a shot and take it; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._shot is not None or self._ended)
            shot, self._shot = self._shot, None
            return shot


class Live:
    """Sends the shots of one source and gives their answers, in order. One thread iterates.

    A thread takes shots and keeps the newest only; another sends it as soon as fewer than ``window`` are under way.
    """

    def __init__(
        self,
        source: Source,
        encode: Callable[[Any], bytes],
        client: Client,
        *,
        max_age_s: float = 1.0,
        window: int = 16,
        **options: Unpack[SubmitOptions],
    ) -> None:
        """Watch ``source``.

        Args:
            source: where shots come from; it is closed at the end.
            encode: makes an image file of a shot's pixels.
            client: of the fleet; with ``when_full="refuse"`` a full queue costs no time.
            max_age_s: no answer is given for a shot that is older.
            window: most shots under way.
            **options: see :class:`producer.requests.SubmitOptions`; the deadline is the shot's own.
        """
        self.counts = Counts()
        self._source, self._encode, self._client = source, encode, client
        self._max_age_s, self._options = max_age_s, options
        self._free = threading.Semaphore(window)
        self._newest = Newest()
        self._left = threading.Event()
        self._sent: SimpleQueue[tuple[Shot, Job[Result] | FleetError] | BaseException | None] = SimpleQueue()

    def answers(self) -> Generator[Seen, None, None]:
        """Give what was seen, oldest first, until the source ends.

        Raises:
            FleetError: the fleet cannot be reached, or refuses all requests of this kind.
        """
        threads = [threading.Thread(target=work, daemon=True) for work in (self._take, self._send)]
        for thread in threads:
            thread.start()
        try:
            while (item := self._sent.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                seen = self._outcome(*item)
                self._free.release()
                if seen is not None:
                    self.counts.answered += 1
                    yield seen
        finally:
            self._source.close()
            self._left.set()
            self._free.release()
            for thread in threads:
                thread.join(STOP_WITHIN_S)

    def _take(self) -> None:
        try:
            for shot in self._source.shots():
                self.counts.taken += 1
                if self._newest.put(shot):
                    self.counts.skipped += 1
        finally:
            self._newest.end()

    def _send(self) -> None:
        try:
            while True:
                # First the place, then the shot: it is the newest at the moment it goes.
                self._free.acquire()
                shot = None if self._left.is_set() else self._newest.take()
                if shot is None:
                    break
                self._sent.put((shot, self._submit(shot)))
        except Exception as error:  # noqa: BLE001 - raised again by whoever iterates
            self._sent.put(error)
        else:
            self._sent.put(None)

    def _submit(self, shot: Shot) -> Job[Result] | FleetError:
        left_s = self._max_age_s - shot.age_s()
        if left_s <= 0:
            return Overloaded("The shot was too old when its turn came.")
        try:
            options: SubmitOptions = {**self._options, "deadline_s": left_s}
            return self._client.submit(self._encode(shot.pixels), **options)
        except FleetError as error:
            if not is_about_one(error):
                raise
            return error

    def _outcome(self, shot: Shot, job: Job[Result] | FleetError) -> Seen | None:
        """Wait for the answer as long as it is of use; None when it came too late."""
        if isinstance(job, Overloaded):
            self.counts.skipped += 1
            return None
        if isinstance(job, FleetError):
            return Seen(shot, error=job)
        try:
            seen = Seen(shot, job.result(timeout=max(0.0, self._max_age_s - shot.age_s())))
        except TimeoutError:
            job.cancel()
        except DeadlineExceeded:
            pass
        except FleetError as error:
            return Seen(shot, error=error)
        else:
            # Old also when whoever iterates, a film writer perhaps, is the slow one.
            if shot.age_s() <= self._max_age_s:
                return seen
        self.counts.late += 1
        return None
