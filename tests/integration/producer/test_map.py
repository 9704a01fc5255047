"""``map``: order, window, batches, errors, leaving early."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from producer import Client, InvalidImage, InvalidRequest, UnknownModel
from producer.wire import MODELS_KEY
from tests.integration.producer.standin import (
    PICTURE,
    StandIn,
    answer_all,
    echo,
    make_result,
    numbered,
    store,
)


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_image_gets_its_own_answer(client: Client, url: str, batch: int, ordered: bool) -> None:
    """Given 50 images, then each answer belongs to its image; ordered means in their order."""
    images = numbered(50)
    with StandIn(url, echo) as worker:
        answers = list(client.map(images, window=16, batch=batch, ordered=ordered))
    assert sorted(answer.index for answer in answers) == list(range(50))
    assert all(answer.result and answer.result.width == answer.index for answer in answers)
    assert all(answer.image is images[answer.index] for answer in answers)
    assert not ordered or [answer.index for answer in answers] == list(range(50))
    assert len(worker.seen) == -(-50 // batch)


def test_unordered_answers_come_as_they_are_ready(client: Client, url: str) -> None:
    """Given the first job is the slowest, then the others do not wait for it."""
    ids: list[str] = []

    def first_is_late(headers: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        ids.append(headers["id"])
        if len(ids) < 5:
            return None if len(ids) == 1 else echo(headers, args, kwargs)
        store(url, ids[0], make_result(width=0).to_json())
        return echo(headers, args, kwargs)

    with StandIn(url, first_is_late):
        order = [answer.index for answer in client.map(numbered(5), ordered=False)]
    assert order[0] != 0
    assert sorted(order) == [0, 1, 2, 3, 4]


def test_the_window_bounds_how_far_map_reads_ahead(client: Client, worker: StandIn) -> None:
    """Given an endless iterable, then no more than the window is taken before answers are."""
    taken = itertools.count()

    def endless() -> Iterator[bytes]:
        while True:
            next(taken)
            yield PICTURE

    answers = client.map(endless(), window=5)
    for number in range(20):
        assert next(answers).index == number
    answers.close()
    assert next(taken) <= 25


def test_a_bad_item_is_an_answer_and_not_the_end(client: Client, worker: StandIn) -> None:
    """Given a path that names nothing among images, then its answer is the error, in its place."""
    answers = list(client.map([PICTURE, "/no/such.jpg", b"", PICTURE], batch=2))
    assert [type(answer.error) for answer in answers] == [type(None), InvalidImage, InvalidImage, type(None)]
    assert answers[3].result is not None


def test_only_bad_items_give_only_errors(client: Client) -> None:
    """Given nothing that can be sent, then map answers without a worker."""
    assert [answer.index for answer in client.map(["/no/1", "/no/2", "/no/3"], batch=2)] == [0, 1, 2]
    assert list(client.map([])) == []


def test_leaving_early_cancels_what_is_under_way(client: Client, url: str, redis: Redis) -> None:
    """Given a loop that ends at the first answer, then the jobs that nobody waits for are revoked."""
    with redis.pubsub() as heard:
        heard.subscribe("/0.celery.pidbox")
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        answered = []

        def answer_one(headers: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
            answered.append(headers["id"])
            return answer_all(headers, args, kwargs) if len(answered) == 1 else None

        with StandIn(url, answer_one):
            answers = client.map([PICTURE] * 100, window=10)
            assert next(answers).index == 0
            answers.close()
        assert heard.get_message(timeout=5)["type"] == "message"
    assert len(client._current.waiting) == 0


def test_a_wrong_model_ends_map_instead_of_failing_each_image(client: Client, redis: Redis) -> None:
    """Given an unknown model or a bad option, then map raises it."""
    redis.hset(MODELS_KEY, "centerface", "{}")
    with pytest.raises(UnknownModel):
        next(client.map([PICTURE], model="yolo"))
    with pytest.raises(InvalidRequest, match="window"):
        client.map([PICTURE], window=0)
    with pytest.raises(InvalidRequest, match="batch"):
        client.map([PICTURE], batch=1000)
