"""``FLEET_BATCH``: a worker whose network takes several pictures at once gives the same answers."""

import base64

import cv2
import numpy as np

from tests.integration.kit import Fleet, faces


def test_a_worker_with_batches_answers_each_job_with_its_own_boxes(bare_fleet: Fleet) -> None:
    """Given a flood of pictures with a face and without, then each answer is that of its own picture."""
    fleet, empty = bare_fleet, {"data": base64.b64encode(cv2.imencode(".png", np.zeros((64, 64, 3)))[1]).decode()}
    worker = fleet.start(batch=4, batch_wait_ms=20)
    try:
        jobs = [fleet.detect(None if number % 3 else empty) for number in range(60)]
        assert [faces(job.get(timeout=30)) for job in jobs] == [int(number % 3 > 0) for number in range(60)]
        (model,) = fleet.inspect("stats")["pool"]["models"].values()
        assert model["requests"] % 4 == 0
    finally:
        assert worker.stop() == 0
        fleet.workers.clear()
        fleet.wipe()
