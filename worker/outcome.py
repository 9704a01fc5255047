"""What a job wants, and what became of each of its images, as the public result says it.

Stage: between :mod:`worker.preparing`, which fills an outcome in, and :mod:`worker.tasks`, which makes a result of it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from producer import dead, wire
from producer.errors import FleetError
from worker import decode
from worker.batches import Requests
from worker.model_toml import ModelSpec
from worker.network import Network


@dataclass(frozen=True, slots=True)
class Request:
    """What a job wants.

    Attributes:
        images: as they stand in the message, not yet parsed.
        options: the job's options.
        model: model that the job's queue belongs to, or None.
        job_id: for the log.
        deadline: seconds since the epoch, or None.
        many: whether it is a batch.
        waited_in: the Redis list that the message came from, or None.
        redelivered: whether the message was delivered before, as after a worker's death.
        retries: how often the job was tried before.
    """

    images: Sequence[object]
    options: wire.Options
    model: str | None = None
    job_id: str = ""
    deadline: float | None = None
    many: bool = False
    waited_in: str | None = None
    redelivered: bool = False
    retries: int = 0

    def as_dead(self, error: FleetError) -> dead.DeadJob:
        """Describe the job for the dead list."""
        return dead.DeadJob(
            id=self.job_id,
            task=wire.TASK_DETECT_MANY if self.many else wire.TASK_DETECT,
            queue=wire.queue_of_list(self.waited_in or ""),
            args=[list(self.images)] if self.many else list(self.images),
            kwargs=self.options.to_json(),
            code=error.code,
            reason=str(error),
        )


@dataclass(slots=True)
class Outcome:
    """What became of one image; complete when its :class:`Detecting` is settled.

    ``queue`` is the infer queue of ``network``: the two are chosen together, when the request begins.
    ``rows`` is ``(n, 6+) float32`` in pixels of the network's input, or of the picture if that was cut into ``tiles``;
    None when there is an ``error``. The next four say where its way led, for :mod:`worker.trail`: when stages began, by
    the monotonic clock, on which decode thread, how many bytes, in which infer request.
    """

    network: Network
    options: wire.Options
    rows: npt.NDArray[np.float32] | None = None
    frame: decode.Frame | None = None
    tiles: int = 0
    error: FleetError | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    done_at: float = 0.0
    starts: dict[str, float] = field(default_factory=dict)
    thread: str = ""
    size_bytes: int = 0
    slot: int | None = None
    queue: Requests | None = None

    def result(self, *, worker: str, queued_ms: float) -> wire.Result:
        """Build the public result: filter, map to the original image, clip, name the labels.

        Raises:
            FleetError: the image's own error.
        """
        if self.error is not None:
            raise self.error
        assert self.rows is not None  # noqa: S101 - one of the two is set
        assert self.frame is not None  # noqa: S101
        detections = to_detections(self.rows, self.frame, self.network.spec, self.options)
        finish_ms = (time.monotonic() - self.done_at) * 1000
        timings = {"queued": queued_ms, **self.timings_ms, "finish": finish_ms}
        return wire.Result(
            model=self.network.spec.name,
            model_digest=self.network.digest,
            width=self.frame.width,
            height=self.frame.height,
            detections=detections,
            timings_ms={stage: round(value, 2) for stage, value in timings.items()},
            worker=worker,
            tiles=self.tiles,
        )


def to_detections(
    rows: npt.NDArray[np.float32], frame: decode.Frame, spec: ModelSpec, options: wire.Options
) -> tuple[wire.Detection, ...]:
    """Turn the graph's rows into detections in pixels of the original image.

    Args:
        rows: ``(n, 6 + 2 * points)`` float32: label, score, x1, y1, x2, y2, keypoints, input pixels, best first.
        frame: how the original lies in the input.
        spec: the model's labels and least score.
        options: the request's own least score and most detections.
    """
    rows = rows[rows[:, 1] >= least_score(spec, options)][: options.max_detections or wire.MAX_DETECTIONS]
    points = frame.to_original(rows[:, 2:].reshape(len(rows), rows.shape[1] // 2 - 1, 2))
    corners = points[:, :2]
    np.clip(corners, 0, np.array([frame.width, frame.height], np.float32), out=corners)
    places = points.astype(float).round(2).tolist()
    scores = rows[:, 1].astype(float).round(4).tolist()
    ids = rows[:, 0].astype(int).tolist()
    return tuple(
        wire.Detection(
            label=spec.labels[label_id] if label_id < len(spec.labels) else str(label_id),
            label_id=label_id,
            score=score,
            box=(*first, *second),
            keypoints=tuple((x, y) for x, y in keypoints),
        )
        for label_id, score, (first, second, *keypoints) in zip(ids, scores, places, strict=True)
    )


def least_score(spec: ModelSpec, options: wire.Options) -> float:
    return spec.min_score if options.min_score is None else options.min_score
