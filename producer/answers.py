"""``map``: many images through a window, in order or as they come.

Stage: the bookkeeping that :mod:`producer.client` and :mod:`producer.aio` share. Pure: it sends nothing and waits for
nothing. At most ``window`` images are between "taken from the caller's iterable" and "handed back as an answer".
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from producer.errors import CallerError, FleetError, InternalError, InvalidRequest, Overloaded, UnknownModel
from producer.images import ImageSource, Picture
from producer.results import Outcome
from producer.wire import MAX_BATCH, Result


@dataclass(frozen=True, slots=True)
class Answer:
    """What one image of :meth:`producer.Client.map` gave.

    Attributes:
        index: place of the image in the iterable, from 0.
        image: the image as the caller gave it.
        result: what was found, or None when it failed.
        error: why it failed, or None.
    """

    index: int
    image: Any
    result: Result | None = None
    error: FleetError | None = None


@dataclass(slots=True)
class Group:
    """The images of one job to be: taken from the iterable, and read.

    Attributes:
        places: index and source of each.
        pictures: what was read.
        job_id: the job they were last sent as, or None.
    """

    places: list[tuple[int, ImageSource]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    job_id: str | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of its images."""
        return sum(len(picture.data) for picture in self.pictures)

    def add(self, index: int, image: ImageSource, picture: Picture) -> None:
        """Add an image that was read."""
        self.places.append((index, image))
        self.pictures.append(picture)


class Window:
    """Which images are under way. Not thread-safe: it belongs to one ``map``."""

    def __init__(self, window: int, *, ordered: bool, batch: int) -> None:
        """Allow ``window`` images under way, ``batch`` of them per message.

        Raises:
            InvalidRequest: a size is out of range.
        """
        if not isinstance(window, int) or window < 1:
            raise InvalidRequest("window is a whole number from 1.")
        if not isinstance(batch, int) or not 1 <= batch <= MAX_BATCH:
            raise InvalidRequest(f"batch is a whole number from 1 to {MAX_BATCH}.")
        self.batch = batch
        self._size = max(window, batch)
        self._ordered = ordered
        self._under_way = 0
        self._jobs: dict[str, list[tuple[int, ImageSource]]] = {}
        self._early: dict[int, Answer] = {}
        self._ready: deque[Answer] = deque()
        self._next = 0

    @property
    def many(self) -> bool:
        """Whether images go in batches."""
        return self.batch > 1

    def has_room(self, groups: int = 1) -> bool:
        """Tell whether so many more groups may be taken from the iterable."""
        return self._under_way + groups * self.batch <= self._size

    @property
    def eighth(self) -> int:
        """An eighth of it, in groups; at least one."""
        return max(1, self._size // (8 * self.batch))

    @property
    def waits(self) -> bool:
        """Whether any job has not ended."""
        return bool(self._jobs)

    def outstanding(self) -> dict[str, int | None]:
        """Return the jobs that have not ended, with what :meth:`producer.dispatch.Dispatch.cancel` wants to know."""
        return {job_id: len(places) if self.many else 0 for job_id, places in self._jobs.items()}

    def take(self) -> None:
        """Count an image that was taken from the iterable."""
        self._under_way += 1

    def sent(self, job_id: str, group: Group) -> None:
        """Note that ``group`` is on its way as ``job_id``, or is about to be, and no more as the job it was before."""
        self._forget(group)
        group.job_id = job_id
        self._jobs[job_id] = group.places

    def failed(self, index: int, image: ImageSource, error: FleetError) -> None:
        """Answer an image that could not be read."""
        self._answer(Answer(index, image, error=error))

    def refused(self, group: Group, error: FleetError) -> None:
        """Answer the images of a job for which there was no room."""
        self._forget(group)
        for index, image in group.places:
            self.failed(index, image, error)

    def settle(self, job_id: str, outcome: Outcome) -> None:
        """Answer the images of a job that ended."""
        places = self._jobs.pop(job_id)
        for (index, image), item in zip(places, _spread(outcome, len(places), many=self.many), strict=True):
            if isinstance(item, FleetError):
                self._answer(Answer(index, image, error=item))
            else:
                self._answer(Answer(index, image, result=item))

    def ready(self) -> Iterator[Answer]:
        """Give the answers whose turn it is."""
        while self._ready:
            self._under_way -= 1
            yield self._ready.popleft()

    def _forget(self, group: Group) -> None:
        if group.job_id is not None:
            self._jobs.pop(group.job_id, None)

    def _answer(self, answer: Answer) -> None:
        if not self._ordered:
            self._ready.append(answer)
            return
        self._early[answer.index] = answer
        while self._next in self._early:
            self._ready.append(self._early.pop(self._next))
            self._next += 1


def is_about_one(error: FleetError) -> bool:
    """Tell whether ``error`` of a submit concerns its images only, and the next ones may fare better."""
    return isinstance(error, CallerError | Overloaded) and not isinstance(error, UnknownModel | InvalidRequest)


def _spread(outcome: Outcome, images: int, *, many: bool) -> list[Result | FleetError]:
    if isinstance(outcome, FleetError):
        return [outcome] * images
    if isinstance(outcome, list) is many:
        items: list[Result | FleetError] = outcome if isinstance(outcome, list) else [outcome]
        if len(items) == images:
            return items
    return [InternalError(f"The worker answered another number of images than the {images} sent.")] * images
