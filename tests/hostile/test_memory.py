"""A worker's memory stays within the formula of :func:`worker.memory.headroom_bytes`, whatever it is sent."""

import io
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from producer import wire
from tests.hostile.conftest import Victim
from tests.integration.kit import QUEUE, Fleet, faces, small_picture
from tests.waiting import eventually
from worker import embedded
from worker.memory import BYTES_PER_PIXEL, TILED_AT_ONCE, Room, headroom_bytes

MAX_PIXELS, MAX_IMAGE_BYTES, DECODERS = 9_000_000, 4_000_000, 4


def peak_mb(victim: Victim) -> float:
    """Return the most memory that the worker has had, MB."""
    lines = Path(f"/proc/{victim.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.fixture
def small_victim(store: Path, samples: Path, tmp_path: Path) -> Iterator[Victim]:
    """Start a worker with limits that make its bound small."""
    with embedded.server() as url:
        fleet = Fleet(url, store, tmp_path, small_picture(samples))
        limits = {"max_pixels": MAX_PIXELS, "max_image_bytes": MAX_IMAGE_BYTES, "decoders": DECODERS, "jobs": 20}
        fleet.start(extra=(), lease_s=2, **limits)
        yield Victim(fleet)
        fleet.close()


def costly() -> list[bytes]:
    """Make pictures of the most pixels allowed, of the kinds that take the most memory for each."""
    side = int(MAX_PIXELS**0.5)
    blocks = (
        np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8).repeat(side // 30, 0).repeat(side // 30, 1)
    )
    picture = Image.fromarray(blocks)
    jpeg, png = io.BytesIO(), io.BytesIO()
    picture.convert("CMYK").save(jpeg, "JPEG", progressive=True)
    picture.save(png, "PNG", save_all=True, append_images=[picture.rotate(180)] * 2)
    made = [jpeg.getvalue(), png.getvalue()]
    assert max(map(len, made)) < MAX_IMAGE_BYTES
    return made


def test_a_worker_s_memory_stays_within_its_formula(small_victim: Victim) -> None:
    """Given many of the largest images at once, and 150 MB of messages to be held, then the peak is below the bound.

    Without the limits four decoders would take four times as much, and the messages would all be held.
    """
    fleet, maker = small_victim.fleet, small_victim.maker(1)
    small_victim.assert_well()
    idle_mb = small_victim.memory_mb()
    bound_mb = headroom_bytes(max_pixels=MAX_PIXELS, max_image_bytes=MAX_IMAGE_BYTES, decoders=DECODERS) / 2**20
    images = costly()
    jobs = []
    for number in range(24):
        key = f"{wire.BLOB_PREFIX}costly{number}"
        fleet.redis.set(key, images[number % len(images)], ex=60)
        jobs.append(fleet.detect({"ref": key}))
    assert all(job.get(timeout=60)["width"] == 3000 for job in jobs)
    decoding_mb = peak_mb(small_victim) - idle_mb
    assert decoding_mb < 1.5 * BYTES_PER_PIXEL * MAX_PIXELS / 2**20 + 3 * DECODERS * MAX_IMAGE_BYTES / 2**20

    due = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    for _ in range(14):
        message = maker.good(maker.job_id()) | {"body": [[{"data": "A" * 6_000_000}], {}, {}]}
        message["headers"]["eta"] = due
        fleet.redis.lpush(QUEUE, json.dumps(json.loads(maker.case("", None, message).item)))
    eventually(lambda: fleet.queued() == 0 and not fleet.unacked(), "the end of what was held", 60)
    print("idle", idle_mb, "decoding", decoding_mb, "peak", peak_mb(small_victim) - idle_mb, "bound", bound_mb)
    assert peak_mb(small_victim) - idle_mb < bound_mb
    assert faces(fleet.detect().get(timeout=30)) == 1
    small_victim.assert_well()
    eventually(
        lambda: small_victim.memory_mb() - idle_mb < 50, f"{small_victim.memory_mb()} memory that was given back", 10
    )


def test_pictures_in_tiles_stay_within_the_formula(small_victim: Victim) -> None:
    """Given twenty of the largest pictures at once, all to be cut into tiles, then two keep their pixels at a time.

    Kept all together they would take three times the bound.
    """
    fleet = small_victim.fleet
    small_victim.assert_well()
    idle_mb = small_victim.memory_mb()
    images = costly()
    jobs = []
    for number in range(20):
        key = f"{wire.BLOB_PREFIX}tiled{number}"
        fleet.redis.set(key, images[number % len(images)], ex=60)
        jobs.append(fleet.detect({"ref": key}, options={"tile": 500, "min_score": 0}))
    assert {job.get(timeout=60)["tiles"] for job in jobs} == {64}

    decoding_mb = 1.5 * BYTES_PER_PIXEL * MAX_PIXELS / 2**20 + 3 * DECODERS * MAX_IMAGE_BYTES / 2**20
    assert peak_mb(small_victim) - idle_mb < decoding_mb + 3 * TILED_AT_ONCE * MAX_PIXELS / 2**20
    small_victim.assert_well()


def test_images_are_decoded_together_only_while_their_pixels_fit() -> None:
    """Given room for 10, then 6 and 4 go together, 1 more waits, and one of 20 goes alone and is not overtaken."""
    room, order = Room(10), []
    first, second = room.hold(6), room.hold(4)
    first.__enter__()
    second.__enter__()

    def take(pixels: int) -> None:
        with room.hold(pixels):
            order.append(pixels)

    large = threading.Thread(target=take, args=(20,))
    large.start()
    eventually(room._turn.locked, "the large one's turn")
    small = threading.Thread(target=take, args=(1,))
    small.start()
    first.__exit__(None, None, None)
    assert order == []
    second.__exit__(None, None, None)
    large.join(10)
    small.join(10)
    assert order == [20, 1]
