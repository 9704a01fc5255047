"""A picture in tiles: small things are found where they are, and nothing else of a job's life changes."""

import io
import threading
import time
import uuid
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from producer import blobs
from producer.errors import Cancelled, DeadlineExceeded, InferenceFailed, InvalidRequest
from producer.wire import Options, Result, Tile
from tests.hazards import networks
from tests.scenes import Scene, small_faces
from tests.unit.worker.conftest import Load
from tests.unit.worker.detectors import PLAN
from tests.unit.worker.tilings import SMALL, SOON_S, ask, error, mosaic, result, tiny
from tests.waiting import eventually
from worker import decode
from worker.memory import TILED_AT_ONCE
from worker.outcome import Request
from worker.preparing import Preparing

# ------------------------------------------------------------------------------------------------------ what is found


@pytest.fixture(scope="module")
def scene(samples: Path, store: Path) -> Scene:
    """24 small faces in a big picture."""
    return small_faces(samples, store)


def png(pixels: np.ndarray) -> bytes:
    """Encode without loss."""
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_small_faces_that_the_network_misses_are_found_in_tiles(start, load: Load, scene: Scene):
    """Given 24 real faces of 22 to 40 pixels in a picture four times as wide as the network's input, when it is looked
    at as a whole, then none is found; in tiles each is found once, in its place, and nothing else.
    """
    detector, data = start(load("centerface")), png(scene.pixels)

    assert result(ask(detector, data)).detections == ()
    answer = result(ask(detector, data, tile=Tile(640)))

    assert min(scene.found(answer)) > 0.75
    assert len(answer.detections) == 24
    assert answer.tiles == 20
    assert Result.parse(answer.to_json()) == answer
    assert [one.score for one in answer.detections] == sorted((one.score for one in answer.detections), reverse=True)


def test_tiles_of_a_turned_photo_lie_in_the_picture_as_a_person_sees_it(start, load: Load, scene: Scene):
    """Given the same picture, stored on its side with an EXIF note of it, then the detections are the same."""
    detector, upright = start(load("centerface")), Image.fromarray(scene.pixels[..., ::-1])
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif, compress_level=1)

    turned = result(ask(detector, buffer.getvalue(), tile=Tile()))

    assert (turned.width, turned.height, turned.tiles) == (2560, 1920, 25)
    assert turned.detections == result(ask(detector, png(scene.pixels), tile=Tile())).detections


def test_a_face_is_found_once_wherever_tiles_meet(start, load: Load, samples: Path, store: Path):
    """Given a face of 90 pixels in steps across an edge, smaller than the overlap of 128, then it is always one."""
    detector = start(load("centerface"))
    for left in range(380, 620, 30):
        one = Scene(samples, store)
        one.pixels = one.pixels[:700, :1200].copy()
        one.put(0, left, 120, 90)
        assert one.found(result(ask(detector, png(one.pixels), tile=Tile(640)))) > [0.7]


def test_a_face_larger_than_any_tile_is_found_once_as_without_tiles(start, load: Load, samples: Path):
    """Given a face of 900 x 1000 pixels and tiles of 640 x 480, then the look at the whole finds it, and only that."""
    photo = cv2.imread(str(samples / "grace_hopper.jpg"))
    data = png(cv2.resize(photo, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC))
    detector = start(load("centerface"))

    tiled = result(ask(detector, data, tile=Tile()))

    assert tiled.tiles > 30
    assert tiled.detections == result(ask(detector, data)).detections
    assert len(tiled.detections) == 1


@pytest.mark.parametrize("model", ["centerface", "blazeface_short"])
def test_where_one_tile_suffices_the_result_is_the_untiled_one(start, load: Load, pictures, model):
    """Given photos that fit into a tile, then not a digit differs, and there are no tiles."""
    detector = start(load(model))
    for name in ("astronaut", "grace_hopper", "china", "exif_6", "png_1x1", "portrait_astronaut"):
        plain, tiled = (result(ask(detector, pictures[name][0], **how)) for how in ({}, {"tile": Tile(1000)}))
        assert (tiled.detections, tiled.width, tiled.height) == (plain.detections, plain.width, plain.height)
        assert tiled.tiles == 0
        assert "tiles" not in tiled.to_json()


def test_the_request_s_other_options_hold(start, load: Load, scene: Scene):
    """Given a least score and a most of detections, then both hold for the merged result."""
    detector, data = start(load("centerface")), png(scene.pixels)
    every = result(ask(detector, data, tile=Tile())).detections

    best = result(ask(detector, data, tile=Tile(), max_detections=5)).detections
    sure = result(ask(detector, data, tile=Tile(), min_score=every[9].score)).detections

    assert best == every[:5]
    assert sure == every[:10]


# ------------------------------------------------------------------------------------------------------ a job's life


def test_each_tile_is_looked_at_once_and_the_whole_too(start):
    """Given 40 tiles, then each has gone through the network once, and one picture more."""
    detector = start(tiny(networks.echo), requests=3)
    seen: list[int] = []
    real = detector.queues["tiny"].submit

    def submit(tensor, **options):
        seen.append(networks.number_of(tensor.astype(np.float32)))
        return real(tensor, **options)

    detector.queues["tiny"].submit = submit
    (outcome,) = ask(detector, mosaic(8, 5), tile=SMALL).result(SOON_S)

    assert set(range(40)) <= set(seen)
    assert len(seen) == 41
    assert outcome.tiles == 40
    assert set(outcome.timings_ms) == {"fetch", "decode", "wait", "infer"}
    assert detector.queues["tiny"].free == 3


def test_a_picture_that_needs_too_many_tiles_is_the_caller_s_mistake(start):
    """Given tiles so small that a picture needs a thousand, then nothing is inferred, and the next picture is."""
    detector = start(tiny(networks.echo))
    many = png(np.zeros((1024, 1024, 3), np.uint8))

    assert all(isinstance(error(ask(detector, many, tile=SMALL)), InvalidRequest) for _ in range(2 * TILED_AT_ONCE))
    assert result(ask(detector, mosaic(4, 4), tile=SMALL)).tiles == 16


def test_a_tile_that_fails_fails_its_picture_and_no_other(start):
    """Given a network that cannot bear one tile, then its picture is a failed inference, another goes through."""
    detector = start(tiny(networks.picky))

    assert isinstance(error(ask(detector, mosaic(3, 3, nonzero=2), tile=SMALL)), InferenceFailed)
    assert error(ask(detector, png(networks.tensor(1)[0]), tile=SMALL)) is None
    eventually(lambda: detector.queues["tiny"].free == 2)
    eventually(lambda: detector._preparing._tiled._free == TILED_AT_ONCE)


def test_a_picture_cancelled_among_its_tiles_ends_at_once_and_frees_its_place(start):
    """Given a picture of 100 slow tiles, when it is cancelled, then no further tile begins, and its place is free."""
    detector = start(tiny(networks.lasting))
    detecting = ask(detector, mosaic(10, 10, first=100), tile=SMALL)
    eventually(lambda: detector.queues["tiny"].in_flight)

    assert detecting.cancel()

    assert isinstance(error(detecting), Cancelled)
    eventually(lambda: detector.queues["tiny"].free == 2)
    eventually(lambda: detector._preparing._tiled._free == TILED_AT_ONCE)
    assert not detecting.cancel()
    assert result(ask(detector, mosaic(2, 2), tile=SMALL)).tiles == 4


def test_a_deadline_is_looked_at_before_each_tile(start):
    """Given a deadline in the middle of 500 slow tiles, then the rest is not begun."""
    detector = start(tiny(networks.lasting))

    detecting = ask(detector, mosaic(25, 20, first=200), tile=SMALL, deadline=time.time() + 1)

    assert isinstance(error(detecting), DeadlineExceeded)
    eventually(lambda: detector.queues["tiny"].free == 2)


def test_other_jobs_go_on_between_the_tiles(start):
    """Given two pictures of 500 slow tiles each, when twenty others come, then those are done long before."""
    detector = start(tiny(networks.lasting))
    big = [ask(detector, mosaic(25, 20, first=150), tile=SMALL) for _ in range(2)]
    eventually(lambda: detector.queues["tiny"].in_flight)

    small = [ask(detector, png(networks.tensor(number)[0])) for number in range(20)]

    for number, job in enumerate(small):
        (outcome,) = job.result(SOON_S)
        assert networks.number_of(outcome.rows) == number
    assert not any(job.done() for job in big)
    for job in big:
        job.cancel()


def test_of_one_picture_no_more_tiles_are_under_way_than_there_are_requests(start):
    """Given a picture of 100 tiles, then as many wait for a thread or a request as there are requests, never more."""
    detector = start(tiny(networks.lasting), requests=3)
    most, waiting, real = 0, 0, detector._preparing._cut
    lock = threading.Lock()

    def counted(change: int) -> None:
        nonlocal most, waiting
        with lock:
            waiting += change
            most = max(most, waiting)

    def step(detecting, tiling):
        counted(1)
        Preparing._step(detector._preparing, detecting, tiling)

    def cut(detecting, tiling):
        real(detecting, tiling)
        counted(-1)

    detector._preparing._step, detector._preparing._cut = step, cut
    assert result(ask(detector, mosaic(10, 10, first=4), tile=SMALL)).tiles == 100
    assert most <= 3 + PLAN.decoders  # a tile may land before the thread that started it has said so


def test_few_pictures_keep_their_pixels_however_many_come(start, monkeypatch):
    """Given a batch of ten pictures in tiles, then at most two of them are decoded at any time."""
    decoded: list[weakref.ref[Any]] = []
    alive: list[int] = []
    real = decode.to_picture

    def to_picture(*args):
        picture = real(*args)
        decoded.append(weakref.ref(picture))
        alive.append(sum(one() is not None for one in decoded))
        return picture

    monkeypatch.setattr(decode, "to_picture", to_picture)
    detector = start(tiny(networks.lasting))

    outcomes = ask(detector, *[mosaic(5, 4, first=10) for _ in range(10)], tile=SMALL).result(SOON_S)

    assert [outcome.tiles for outcome in outcomes] == [20] * 10
    assert len(alive) == 10
    # One that has cut its last tile may still be let go by the thread that cut it.
    assert max(alive) <= TILED_AT_ONCE + PLAN.decoders


def test_a_picture_that_waits_for_its_turn_is_cancelled_at_once(start):
    """Given two long pictures under way and one that waits, when that is cancelled, then it does not wait for them."""
    detector = start(tiny(networks.lasting))
    long = [ask(detector, mosaic(20, 20, first=150), tile=SMALL) for _ in range(TILED_AT_ONCE)]
    eventually(lambda: detector._preparing._tiled._free == 0)
    waits = ask(detector, mosaic(2, 2), tile=SMALL)
    eventually(lambda: detector._preparing._tiled._waiting)

    assert waits.cancel()

    assert isinstance(error(waits), Cancelled)
    assert not any(job.done() for job in long)
    for job in long:
        job.cancel()
    assert result(ask(detector, mosaic(2, 2), tile=SMALL)).tiles == 4


def test_closing_settles_what_is_in_tiles_and_what_waits(start, caplog):
    """Given a batch of 250 pictures, most of which wait for their turn, then all end as cancelled, without a fuss."""
    detector = start(tiny(networks.lasting))
    picture = mosaic(8, 8, first=100)
    key = blobs.new_key()
    detector._redis.set(key, picture, ex=600)
    batch = detector.start(Request([{"ref": key}] * 250, Options(tile=SMALL), job_id=uuid.uuid4().hex, many=True))
    eventually(lambda: detector.queues["tiny"].in_flight)

    detector.close()

    assert {outcome.error.code for outcome in batch.result(SOON_S)} == {"cancelled"}
    assert "internal_error" not in caplog.text
