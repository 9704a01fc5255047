"""Which images of ``map`` go together."""

from collections.abc import Iterator

import pytest

from producer import InvalidImage
from producer.answers import Window
from producer.images import ImageSource
from producer.intake import AT_ONCE_S, FEW, FEW_BYTES, IN_A_ROW, Intake

PICTURE = b"x"


class Clock:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let pulling an image take as long as the test says."""
    made = Clock()
    monkeypatch.setattr("producer.intake.time.monotonic", made)
    return made


def after(pauses: list[float], clock: Clock, image: ImageSource = PICTURE) -> Iterator[ImageSource]:
    """Give an image after each of ``pauses``."""
    for pause_s in pauses:
        clock.now += pause_s
        yield image


def sizes(intake: Intake) -> list[int]:
    """Take everything and say how many messages went together."""
    found = []
    while intake.more:
        found.append(len(intake.take()))
    return found


def window(size: int = 100, batch: int = 1) -> Window:
    """Make the window of a map."""
    return Window(size, ordered=True, batch=batch)


def test_what_comes_at_once_goes_together_after_a_while(clock: Clock) -> None:
    """Given a list, then the first messages go alone, and the others a few together."""
    images = [PICTURE] * (IN_A_ROW - 1 + 2 * FEW)
    assert sizes(Intake(images, window())) == [1] * (IN_A_ROW - 1) + [FEW, FEW, 0]


def test_batches_go_together_as_well(clock: Clock) -> None:
    """Given batches of small images, then a message is a batch."""
    intake = Intake([PICTURE] * 3 * (IN_A_ROW - 1 + FEW), window(batch=3))
    assert sizes(intake) == [1] * (IN_A_ROW - 1) + [FEW, 0]


def test_from_a_slow_source_each_goes_alone(clock: Clock) -> None:
    """Given a source that takes its time for each image, then no image waits for the next."""
    assert sizes(Intake(after([AT_ONCE_S] * 30, clock), window())) == [1] * 30 + [0]


def test_a_burst_of_a_camera_goes_alone(clock: Clock) -> None:
    """Given a few images at once after each pause, as a camera's buffer gives them, then each goes alone."""
    assert sizes(Intake(after(([1.0] + [0.0] * (IN_A_ROW - 2)) * 5, clock), window())) == [1] * 5 * (IN_A_ROW - 1) + [0]


def test_a_pause_ends_the_group_and_trust_with_it(clock: Clock) -> None:
    """Given a fast source that pauses, then what was held goes with the image that came late, and the next go alone."""
    pauses = [0.0] * (IN_A_ROW - 1) + [0.0, 1.0] + [0.0] * 3
    assert sizes(Intake(after(pauses, clock), window())) == [1] * (IN_A_ROW - 1) + [2] + [1] * 3 + [0]


def test_a_group_is_no_larger_than_the_window_allows(clock: Clock) -> None:
    """Given room for two more, then two go together, and no third is taken."""
    room = window(IN_A_ROW + 1)
    intake = Intake([PICTURE] * 30, room)
    assert [len(intake.take()) for _ in range(IN_A_ROW)] == [1] * (IN_A_ROW - 1) + [2]
    assert not room.has_room()


def filled(images: Iterator[ImageSource] | list[ImageSource], room: Window) -> Intake:
    """Take until the window is full; each image is its own job."""
    intake = Intake(images, room)
    while intake.goes_on():
        for group in intake.take():
            room.sent(str(group.places[0][0]), group)
    return intake


def answered(room: Window, job_ids: range) -> int:
    """Let these jobs end, and hand over their answers."""
    for job_id in job_ids:
        room.settle(str(job_id), InvalidImage())
    return len(list(room.ready()))


def test_a_full_window_is_filled_again_a_few_at_a_time(clock: Clock) -> None:
    """Given a full window and a fast source, then nothing is taken before a few may go together."""
    room = window(8 * FEW)
    intake = filled([PICTURE] * 100, room)
    assert not room.has_room()

    assert answered(room, range(FEW - 1)) == FEW - 1
    assert not intake.goes_on()
    assert answered(room, range(FEW - 1, FEW)) == 1
    assert intake.goes_on()
    assert len(intake.take()) == FEW


def test_a_small_window_waits_for_an_eighth_of_it(clock: Clock) -> None:
    """Given a window of sixteen, then two go together; given one of three, or batches, each goes alone."""
    for room, few in ((window(16), 2), (window(3), 1), (window(16, batch=4), 1)):
        intake = filled([PICTURE] * 100, room)
        jobs = sorted(int(one) for one in room.outstanding())
        for job_id in jobs[: few - 1]:
            room.settle(str(job_id), InvalidImage())
        assert list(room.ready()) == [] or not intake.goes_on()
        room.settle(str(jobs[few - 1]), InvalidImage())
        assert list(room.ready())
        assert intake.goes_on()


def test_large_images_wait_for_no_more_room_than_they_use(clock: Clock) -> None:
    """Given images so large that two go together, or one alone, then a full window goes on with room for so many."""
    for size, few in ((FEW_BYTES // 2, 2), (FEW_BYTES, 1)):
        room = window(8 * FEW)
        intake = filled([bytes(size)] * 100, room)
        jobs = sorted(int(one) for one in room.outstanding())
        answered(room, range(jobs[0], few - 1))
        assert not intake.goes_on()

        answered(room, range(few - 1, few))

        assert intake.goes_on()


def test_a_slow_source_fills_a_window_one_by_one(clock: Clock) -> None:
    """Given a full window and a slow source, then each place that is free is taken at once."""
    room = window(8 * FEW)
    intake = filled(after([AT_ONCE_S] * 100, clock), room)
    assert not room.has_room()

    answered(room, range(1))

    assert intake.goes_on()


def test_a_window_without_a_job_is_never_waited_for(clock: Clock) -> None:
    """Given a window of images that could all not be read, then it goes on once they are handed over."""
    room = window(8 * FEW)
    intake = filled([b""] * 100, room)
    assert not room.waits
    assert not intake.goes_on()

    assert len(list(room.ready())) == 8 * FEW

    assert intake.goes_on()


def test_large_images_fill_a_group(clock: Clock) -> None:
    """Given images of half the bytes of a group, then two go together; one of more goes alone."""
    half, large = bytes(FEW_BYTES // 2), bytes(FEW_BYTES)
    intake = Intake([PICTURE] * (IN_A_ROW - 1) + [half] * 4 + [large] * 2, window())
    assert sizes(intake) == [1] * (IN_A_ROW - 1) + [2, 2, 1, 1, 0]


def test_a_bad_image_is_answered_and_its_neighbours_go(clock: Clock) -> None:
    """Given one of a group that cannot be read, then the others go together, and its answer is the error."""
    room = window()
    intake = Intake([PICTURE] * IN_A_ROW + [b""] + [PICTURE] * 2, room)
    groups = [intake.take() for _ in range(IN_A_ROW)][-1]
    assert [group.places[0][0] for group in groups] == [IN_A_ROW - 1, IN_A_ROW + 1, IN_A_ROW + 2]
    for number in range(IN_A_ROW):
        room.failed(number, PICTURE, InvalidImage())
    assert [answer.index for answer in room.ready()] == list(range(IN_A_ROW + 1))
