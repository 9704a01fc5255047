"""The bookkeeping of ``map``."""

import uuid
from queue import SimpleQueue

import pytest

from producer import Client, DeadlineExceeded, InternalError, InvalidImage, Overloaded, UnknownModel, Unreachable
from producer.answers import Group, Window, is_about_one
from producer.images import Picture
from producer.requests import Terms
from producer.wire import Result

RESULT = Result("m", "d", 1, 1, ())


def send(window: Window, job_id: str, *indices: int) -> None:
    """Put a job of these images under way."""
    group = Group()
    for index in indices:
        window.take()
        group.add(index, f"image {index}", Picture(b"x"))
    window.sent(job_id, group)


def test_ordered_answers_wait_for_their_turn_and_count_until_they_are_handed_over() -> None:
    """Given the second image ends first, then nothing is ready and its place in the window stays taken."""
    window = Window(2, ordered=True, batch=1)
    send(window, "a", 0)
    send(window, "b", 1)
    window.settle("b", RESULT)
    assert list(window.ready()) == []
    assert not window.has_room()
    window.settle("a", DeadlineExceeded())
    assert [(answer.index, answer.image, answer.result) for answer in window.ready()] == [
        (0, "image 0", None),
        (1, "image 1", RESULT),
    ]
    assert window.has_room()
    assert window.outstanding() == {}


def test_a_failed_batch_is_an_error_for_each_of_its_images() -> None:
    """Given a batch that ends in one error, or in a list of another length, then each image has an error."""
    window = Window(8, ordered=False, batch=2)
    send(window, "a", 0, 1)
    send(window, "b", 2, 3)
    assert window.outstanding() == {"a": 2, "b": 2}
    window.settle("a", DeadlineExceeded())
    window.settle("b", [RESULT])
    assert [type(answer.error) for answer in window.ready()] == [DeadlineExceeded] * 2 + [InternalError] * 2


def test_a_group_is_one_job_at_a_time() -> None:
    """Given a group that is sent as another job, and then refused, then only the job that it is now counts, then none.

    So nothing is given up that never was, and what may have arrived is.
    """
    window = Window(8, ordered=False, batch=1)
    group = Group()
    window.take()
    group.add(0, "image 0", Picture(b"x"))
    window.sent("a", group)
    send(window, "other", 1)
    window.sent("b", group)
    assert window.outstanding() == {"other": 0, "b": 0}
    window.refused(group, Overloaded())
    assert window.outstanding() == {"other": 0}
    assert [(answer.index, type(answer.error)) for answer in window.ready()] == [(0, Overloaded)]


def test_a_window_smaller_than_a_batch_grows_to_it() -> None:
    """Given window 1 and batch 4, then a batch fits."""
    assert Window(1, ordered=True, batch=4).has_room()


def test_which_errors_of_a_submit_concern_one_image() -> None:
    """Given an error, then map goes on after what may be better with the next image, and ends after the others."""
    assert is_about_one(InvalidImage())
    assert is_about_one(Overloaded())
    assert not is_about_one(UnknownModel())
    assert not is_about_one(Unreachable())


def test_going_on_does_not_list_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given answers that come one by one, then jobs are listed once, on leaving: with each it would cost the window."""
    listed: list[int] = []
    whole = Window.outstanding
    monkeypatch.setattr(Window, "outstanding", lambda window: listed.append(1) or whole(window))
    client = Client("redis://127.0.0.1:1/0", model="m")

    def start(groups: list[Group], window: Window, _: Terms, finished: "SimpleQueue[tuple[str, Result]]") -> None:
        for group in groups:
            job_id = uuid.uuid4().hex
            window.sent(job_id, group)
            finished.put((job_id, RESULT))

    monkeypatch.setattr(client, "_start", start)

    answers = list(client.map([b"x"] * 50, window=20))

    assert [answer.result for answer in answers] == [RESULT] * 50
    assert listed == [1]
