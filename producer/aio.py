"""The client for asyncio: the methods of :mod:`producer.client`, awaited.

Stage: a second front door on the same conversations. Nothing here blocks the loop: files are read in a thread, and
results come over one pub/sub connection that one task listens to.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar, Unpack, cast

from producer.aiolink import AsyncLink, AsyncPromise
from producer.answers import Answer, Group, Window
from producer.dispatch import Rules
from producer.errors import Cancelled, FleetError
from producer.ids import check_job_id, deadline_of
from producer.images import ImageSource, Picture, read
from producer.intake import FEW, AsyncIntake
from producer.job import unpack
from producer.redis_url import DEFAULT_URL
from producer.requests import SubmitOptions, Terms
from producer.results import Batch, Outcome
from producer.together import Together
from producer.wire import Result

T = TypeVar("T")

#: How the jobs of one ``map`` ended.
Finished: TypeAlias = asyncio.Queue[tuple[str, Outcome]]


class AsyncJob(Generic[T]):
    """A job, as :class:`producer.job.Job`. Belongs to its client's event loop."""

    def __init__(
        self, link: AsyncLink, job_id: str, images: int | None, promise: AsyncPromise, *, keep: bool = False
    ) -> None:
        """Made by a client only; ``keep`` leaves the result in Redis for its whole life."""
        self._link = link
        self._images = images
        self._promise = promise
        self._collected = keep
        #: Names the job in every process and in Celery's own tools.
        self.id = job_id

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id} {'done' if self.done() else 'outstanding'}>"

    async def result(self, timeout: float | None = None) -> T:  # noqa: ASYNC109 - the same signature as Job.result
        """Wait for the result and return it; being cancelled while waiting leaves the job alone.

        Raises:
            TimeoutError: there is no answer after ``timeout`` seconds; the job goes on.
            FleetError: how the job failed, in its own class.
        """
        return cast(T, unpack(await self._outcome(timeout)))

    async def error(self, timeout: float | None = None) -> FleetError | None:  # noqa: ASYNC109 - as Job.error
        """Wait as :meth:`result` does, and return the error; None when the job succeeded.

        Raises:
            TimeoutError: there is no answer after ``timeout`` seconds.
        """
        outcome = await self._outcome(timeout)
        return outcome if isinstance(outcome, FleetError) else None

    def done(self) -> bool:
        """Tell whether the job has ended, as far as this client has heard."""
        return self._promise.done()

    async def cancel(self) -> bool:
        """Cancel the job, running or not; False when it had ended before.

        Raises:
            Unreachable: Redis does not answer, so nobody was told.
        """
        if self._promise.done():
            return False
        ended = (await self._link.run(self._link.dispatch.cancel({self.id: self._images})))[self.id]
        self._link.waiting.settle(self.id, Cancelled() if ended is None else ended)
        return ended is None and isinstance(self._promise.result(), Cancelled)

    async def _outcome(self, timeout_s: float | None) -> Outcome:
        # shield: a caller who stops waiting must not cancel the promise of the others.
        async with asyncio.timeout(timeout_s):
            outcome = await asyncio.shield(self._promise)
        if not self._collected:
            self._collected = True
            self._link.waiting.collected(self.id, final=False)
        return outcome


class AsyncClient:
    """Sends images to the fleet and reads detections back. Belongs to one event loop, shared by all its tasks.

    Use it with ``async with``. What methods raise is what :class:`producer.client.Client`'s raise.
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
        """Prepare a client; it connects with the first call. The arguments are those of ``Client``.

        Raises:
            InvalidRequest: an argument is out of range.
        """
        self._link = AsyncLink(url, Rules(model, max_backlog, max_backlog_bytes, when_full))

    async def submit(self, image: ImageSource, **options: Unpack[SubmitOptions]) -> AsyncJob[Result]:
        """Send one image and return its job; one round trip."""
        terms = Terms(**options)
        picture = await _read(image)
        job_id, promise = await self._send([picture], terms, many=False)
        return AsyncJob(self._link, job_id, 0, promise, keep=terms.is_shared)

    async def submit_many(self, images: Iterable[ImageSource], **options: Unpack[SubmitOptions]) -> AsyncJob[Batch]:
        """Send many images in one message; the result is a list in their order: a Result or an error each."""
        terms = Terms(**options)
        pictures = await asyncio.to_thread(lambda: [read(image) for image in images])
        job_id, promise = await self._send(pictures, terms, many=True)
        return AsyncJob(self._link, job_id, len(pictures), promise, keep=terms.is_shared)

    async def detect(self, image: ImageSource, **options: Unpack[SubmitOptions]) -> Result:
        """Send one image, wait, and return what was found; being cancelled cancels the job."""
        terms = Terms(**options)
        picture = await _read(image)
        job_id, promise = await self._send([picture], terms, many=False)
        try:
            outcome = await asyncio.shield(promise)
        except asyncio.CancelledError:
            if not terms.is_shared:
                self._link.waiting.abandon({job_id: 0})
            raise
        if not terms.is_shared:
            self._link.waiting.collected(job_id, final=True)
        result: Result = unpack(outcome)
        return result

    def map(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        window: int = 64,
        ordered: bool = True,
        batch: int = 1,
        **options: Unpack[SubmitOptions],
    ) -> AsyncGenerator[Answer, None]:
        """Yield an answer for each image, as ``Client.map`` does; ``images`` may be asynchronous too.

        Leaving the loop early cancels what is under way once the iterator is closed (``contextlib.aclosing``). Where a
        source that gave many images at once suddenly stops, up to seven messages wait until it goes on.
        """
        return self._map(images, Window(window, ordered=ordered, batch=batch), Terms(**options).of_many())

    async def job(self, job_id: str) -> AsyncJob[Any]:
        """Pick a job up again by its id."""
        promise = self._link.watch(check_job_id(job_id), deadline_of(job_id))
        await self._link.run(self._link.dispatch.look_up(job_id, self._link.waiting))
        return AsyncJob(self._link, job_id, None, promise, keep=True)

    async def models(self) -> dict[str, Any]:
        """Return the models that workers of this fleet have served: name -> their description."""
        return dict(await self._link.run(self._link.dispatch.models()))

    async def close(self) -> None:
        """Disconnect. Jobs go on; those not answered yet can be picked up by another client."""
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, pictures: list[Picture], terms: Terms, *, many: bool) -> tuple[str, AsyncPromise]:
        link = self._link
        return await link.run(link.dispatch.submit(pictures, terms, link.waiting, many=many))

    async def _map(
        self, images: Iterable[ImageSource] | AsyncIterable[ImageSource], window: Window, terms: Terms
    ) -> AsyncGenerator[Answer, None]:
        intake = AsyncIntake(images, window)
        finished: Finished = asyncio.Queue()
        try:
            while intake.more or window.waits:
                while intake.goes_on():
                    await self._start(await intake.take(), window, terms, finished)
                    for answer in window.ready():
                        yield answer
                if window.waits:
                    for job_id, outcome in await _arrived(finished):
                        window.settle(job_id, outcome)
                        self._link.waiting.collected(job_id, final=True)
                for answer in window.ready():
                    yield answer
        finally:
            self._link.waiting.abandon(window.outstanding())

    async def _start(self, groups: list[Group], window: Window, terms: Terms, finished: Finished) -> None:
        if groups:
            link = self._link
            await link.run(Together(link.dispatch, link.waiting, window, terms, finished.put_nowait).submit(groups))


async def _arrived(finished: Finished) -> list[tuple[str, Outcome]]:
    """Wait for an outcome, and return it with those that are there too: no more than what can be sent together."""
    return [await finished.get(), *(finished.get_nowait() for _ in range(min(finished.qsize(), FEW - 1)))]


async def _read(image: ImageSource) -> Picture:
    """Read an image, in a thread when there may be a disk behind it."""
    return read(image) if isinstance(image, bytes) else await asyncio.to_thread(read, image)
