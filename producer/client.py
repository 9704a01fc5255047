"""The client: images in, detections out.

Stage: the front door. Neighbours: :mod:`producer.images` reads, :mod:`producer.dispatch` sends, :mod:`producer.job` is
what the caller holds. :mod:`producer.aio` is the same for asyncio.
"""

import contextlib
import os
import weakref
from collections.abc import Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, Unpack

from producer.answers import Answer, Group, Window
from producer.dispatch import Rules
from producer.ids import check_job_id
from producer.images import ImageSource, Picture, read
from producer.intake import FEW, Intake
from producer.job import Job, unpack
from producer.link import Link, Promise
from producer.redis_url import DEFAULT_URL
from producer.requests import SubmitOptions, Terms
from producer.results import Batch, Outcome
from producer.together import Together
from producer.wire import Result

#: How the jobs of one ``map`` ended.
Finished: TypeAlias = SimpleQueue[tuple[str, Outcome]]


class Client:
    """Sends images to the fleet and reads detections back. Thread-safe; survives ``os.fork``.

    All methods that send may raise :class:`producer.errors.Unreachable`, when Redis does not answer on any of a few
    tries within about two seconds, and :class:`producer.errors.Overloaded`, when the queue or Redis's memory is full.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        model: str | None = None,
        max_backlog: int = 10_000,
        max_backlog_bytes: int = 1024**3,
        when_full: Literal["wait", "refuse"] = "wait",
    ) -> None:
        """Prepare a client; it connects with the first call.

        Args:
            url: the Redis that broker and results share, as Celery's ``broker_url``.
            model: model of the jobs that name none; default: the only one the fleet serves.
            max_backlog: most jobs that may wait in a model's queue.
            max_backlog_bytes: most bytes that a model's jobs may take in Redis until they end. Whatever it is, four
                fifths of Redis's own limit are never exceeded, where it has one and evicts nothing.
            when_full: what to do then: "wait" for room until the job's deadline, or "refuse" at once.

        Raises:
            InvalidRequest: an argument is out of range.
        """
        self._url = url
        self._rules = Rules(model, max_backlog, max_backlog_bytes, when_full)
        self._current = self._new_link()
        self._left_behind: list[Link] = []

    def submit(self, image: ImageSource, **options: Unpack[SubmitOptions]) -> Job[Result]:
        """Send one image and return at once; one round trip.

        Args:
            image: a path, bytes, a file opened with "rb", or a uint8 array (H, W, 3) BGR.
            **options: see :class:`producer.requests.SubmitOptions`.

        Raises:
            InvalidImage: there is no image there.
            ImageTooLarge: it has more than :data:`producer.wire.MAX_IMAGE_BYTES` bytes.
            InvalidRequest: an option is out of range.
            UnknownModel: no worker serves the model.
        """
        terms = Terms(**options)
        job_id, promise = self._send([read(image)], terms, many=False)
        return Job(self._link, job_id, 0, promise, keep=terms.is_shared)

    def submit_many(self, images: Iterable[ImageSource], **options: Unpack[SubmitOptions]) -> Job[Batch]:
        """Send up to :data:`producer.wire.MAX_BATCH` images in one message: the way for many small ones.

        The result is a list in the images' order: per image a Result, or the error of that image alone.

        Raises:
            InvalidImage: one of them cannot be read here; nothing was sent. :meth:`map` carries on instead.
            InvalidRequest: no image, too many, or an option is out of range.
            UnknownModel: no worker serves the model.
        """
        terms = Terms(**options)
        pictures = [read(image) for image in images]
        job_id, promise = self._send(pictures, terms, many=True)
        return Job(self._link, job_id, len(pictures), promise, keep=terms.is_shared)

    def detect(self, image: ImageSource, **options: Unpack[SubmitOptions]) -> Result:
        """Send one image, wait, and return what was found. Raises what :meth:`submit` and ``Job.result`` raise."""
        terms = Terms(**options)
        job_id, promise = self._send([read(image)], terms, many=False)
        try:
            outcome = promise.result()
        except BaseException:
            if not terms.is_shared:
                self._current.waiting.abandon({job_id: 0})
            raise
        if not terms.is_shared:
            self._current.waiting.collected(job_id, final=True)
        result: Result = unpack(outcome)
        return result

    def map(
        self,
        images: Iterable[ImageSource],
        *,
        window: int = 64,
        ordered: bool = True,
        batch: int = 1,
        **options: Unpack[SubmitOptions],
    ) -> Generator[Answer, None, None]:
        """Send images as they are asked for and yield an answer for each; a failure is an answer too.

        ``images`` is read lazily, never more than ``window`` ahead. While it gives one after the other at once, up to
        eight messages go in one round trip, and a full window is filled again in such steps, also from a camera whose
        newest frame is there whenever it is asked for. From a slow source each goes as soon as it is there. Where a
        fast one stops, up to seven messages wait for the next, as answers do. Leaving the loop early, or closing the
        generator, cancels what is under way.

        Args:
            images: any iterable, endless ones included.
            window: most images under way.
            ordered: answers in the order of ``images``; False: as they come.
            batch: images per message; more than 1 pays for small images and fast models.
            **options: see :class:`producer.requests.SubmitOptions`; a deadline counts from the image's own sending.

        Raises:
            InvalidRequest: an argument is out of range.
            UnknownModel: no worker serves the model.
        """
        return self._map(images, Window(window, ordered=ordered, batch=batch), Terms(**options).of_many())

    def job(self, job_id: str) -> Job[Any]:
        """Pick a job up again, in any process, by its id; an id nobody has heard of ends at its deadline.

        Raises:
            InvalidRequest: that cannot be an id.
        """
        link = self._link()
        job: Job[Any] = Job(self._link, check_job_id(job_id), None, None, keep=True)
        link.run(link.dispatch.look_up(job_id, link.waiting))
        return job

    def models(self) -> dict[str, Any]:
        """Return the models that workers of this fleet have served: name -> their description."""
        link = self._link()
        return dict(link.run(link.dispatch.models()))

    def close(self) -> None:
        """Disconnect. Jobs go on; those not answered yet can be picked up by another client."""
        if self._current.pid == os.getpid():
            self._current.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _link(self) -> Link:
        """Return this process's link."""
        if self._current.pid != os.getpid():
            # The parent's is kept, untouched: collecting it might close what the parent still uses.
            self._left_behind.append(self._current)
            self._current = self._new_link()
        return self._current

    def _new_link(self) -> Link:
        link = Link(self._url, self._rules)
        # A client that nobody closed and nobody uses any more must not keep its thread and connections.
        weakref.finalize(self, setattr, link.waiting, "closed", True)
        return link

    def _send(self, pictures: list[Picture], terms: Terms, *, many: bool) -> tuple[str, Promise]:
        link = self._link()
        return link.run(link.dispatch.submit(pictures, terms, link.waiting, many=many))

    def _map(self, images: Iterable[ImageSource], window: Window, terms: Terms) -> Generator[Answer, None, None]:
        intake = Intake(images, window)
        finished: Finished = SimpleQueue()
        try:
            while intake.more or window.waits:
                while intake.goes_on():
                    self._start(intake.take(), window, terms, finished)
                    yield from window.ready()
                if window.waits:
                    for job_id, outcome in _arrived(finished):
                        window.settle(job_id, outcome)
                        self._current.waiting.collected(job_id, final=True)
                yield from window.ready()
        finally:
            self._current.waiting.abandon(window.outstanding())

    def _start(self, groups: list[Group], window: Window, terms: Terms, finished: Finished) -> None:
        if groups:
            link = self._link()
            link.run(Together(link.dispatch, link.waiting, window, terms, finished.put).submit(groups))


def _arrived(finished: Finished) -> Iterator[tuple[str, Outcome]]:
    """Wait for an outcome, and give it with those that are there too: no more than what can be sent together."""
    yield finished.get()
    with contextlib.suppress(Empty):
        for _ in range(FEW - 1):
            yield finished.get_nowait()
