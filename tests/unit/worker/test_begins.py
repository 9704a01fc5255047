"""Jobs that are begun in one round trip: each is counted and has its own image, whatever is wrong with another's."""

from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from producer import blobs, wire
from producer.scripts import Command
from worker import begins, lines
from worker.begins import Begins
from worker.detector import connect

MOST = 3 * begins.AHEAD_BYTES


class Counted(lines.Lines):
    """Counts round trips."""

    trips = 0

    def ask(self, *commands: Command, atomic: bool = False) -> list[object]:
        """Do as a line does."""
        self.trips += 1
        return super().ask(*commands, atomic=atomic)


@pytest.fixture
def counted(redis: Redis) -> Iterator[Counted]:
    """Give lines to a server of the test's own."""
    one = Counted(redis)
    yield one
    one.close()


def test_several_jobs_are_counted_and_fetched_in_one_round_trip(redis: Redis, counted: Counted) -> None:
    """Given four jobs, one of them begun before and one without a reference, then each has its own count and bytes."""
    refs = [blobs.put(redis, b"image %d" % number, ttl_s=60) for number in range(3)]
    begin = Begins(redis, counted, most_bytes=MOST)
    begin([("job-1", None)])
    redis.expire(wire.BEGUN_PREFIX + "job-1", 5)
    trips = counted.trips

    said = begin([("job-0", refs[0]), ("job-1", refs[1]), ("job-2", None), ("job-3", refs[2])])

    assert counted.trips - trips == 1
    assert said == [(1, b"image 0"), (2, b"image 1"), (1, None), (1, b"image 2")]
    assert [redis.ttl(f"{wire.BEGUN_PREFIX}job-{number}") for number in (1, 3)] == [pytest.approx(86400, abs=30)] * 2


def test_a_long_image_is_fetched_ahead_for_nobody(redis: Redis, counted: Counted) -> None:
    """Given images above the limit of those that lie about, then only the first of a group has come with it."""
    long = bytes(begins.AHEAD_BYTES + 1)
    just = bytes(begins.AHEAD_BYTES)
    refs = [blobs.put(redis, data, ttl_s=60) for data in (long, long, just)]
    said = Begins(redis, counted, most_bytes=MOST)([(f"job-{number}", ref) for number, ref in enumerate(refs)])
    assert [one.first for one in said] == [long, None, just]


def test_after_a_long_image_others_are_fetched_in_their_turn_for_a_while(redis: Redis, counted: Counted) -> None:
    """Given one whose beginning came in vain, then the next 64 are not asked for ahead, and those after them are."""
    long, short = blobs.put(redis, bytes(begins.AHEAD_BYTES + 1), ttl_s=60), blobs.put(redis, b"x", ttl_s=60)
    begin = Begins(redis, counted, most_bytes=MOST)
    assert begin.images([short, short]) == [b"x", b"x"]
    assert begin.images([short, long]) == [b"x", None]
    assert begin.images([short] * 66) == [b"x"] + [None] * 64 + [b"x"]


def test_an_image_above_the_workers_own_limit_is_told_as_such(redis: Redis, counted: Counted) -> None:
    """Given a limit below that of images fetched ahead, then what is longer still comes as too long, not as nothing."""
    refs = [blobs.put(redis, bytes(1001), ttl_s=60) for _ in range(2)]
    said = Begins(redis, counted, most_bytes=1000)([(f"job-{number}", ref) for number, ref in enumerate(refs)])
    assert [len(one.first) for one in said if isinstance(one.first, bytes)] == [1001, 1001]


def test_a_reference_to_something_else_is_the_error_of_its_job_alone(redis: Redis, counted: Counted) -> None:
    """Given a key that holds a list between two images, then the images come, and the error in its place."""
    redis.rpush("fleet:blob:list", "x")
    refs = [blobs.put(redis, b"a", ttl_s=60), "fleet:blob:list", "fleet:blob:gone"]
    said = Begins(redis, counted, most_bytes=MOST)([(f"job-{number}", ref) for number, ref in enumerate(refs)])
    assert said[0].first == b"a"
    assert isinstance(said[1].first, ResponseError)
    assert said[2].first == b""
    assert [one.times for one in said] == [1, 1, 1]


def test_what_comes_with_a_refused_count_is_not_believed(redis: Redis, counted: Counted) -> None:
    """Given a master of before, which refuses to count and has lost its images, then the image is not asked for yet."""
    redis.replicaof("127.0.0.1", 1)
    said = Begins(redis, counted, most_bytes=MOST)([("job-0", "fleet:blob:gone")])
    redis.replicaof("NO", "ONE")
    assert isinstance(said[0].times, ReadOnlyError)
    assert said[0].first is None


def test_jobs_are_counted_while_memory_is_full(own_server: str, redis: Redis, counted: Counted) -> None:
    """Given a server without room, then jobs are counted nevertheless, and images can still be read."""
    ref = blobs.put(redis, b"image", ttl_s=60)
    redis.config_set("maxmemory", 1)
    with connect(own_server, connections=2) as insistent:
        begin = Begins(insistent, counted, most_bytes=MOST)
        said, again = begin([("job-0", ref), ("job-1", ref)]), begin([("job-0", None)])
    redis.config_set("maxmemory", 0)
    assert said == [(1, b"image"), (1, b"image")]
    assert again == [(2, None)]
    assert redis.get(wire.BEGUN_PREFIX + "job-1") == b"1"
    assert redis.ttl(wire.BEGUN_PREFIX + "job-1") == pytest.approx(86400, abs=30)


def test_a_count_that_is_no_number_is_the_error_of_its_job_alone(redis: Redis, counted: Counted) -> None:
    """Given a counter that somebody else wrote, between two jobs, then those are counted, and it is told."""
    redis.set(wire.BEGUN_PREFIX + "job-1", "often")
    said = Begins(redis, counted, most_bytes=MOST)([(f"job-{number}", None) for number in range(3)])
    assert [one.times for one in said[::2]] == [1, 1]
    assert isinstance(said[1].times, ResponseError)


def test_a_lost_connection_is_raised(redis: Redis, counted: Counted) -> None:
    """Given closed connections, then whoever begins jobs hears of it."""
    counted.close()
    with pytest.raises(RedisConnectionError):
        Begins(redis, counted, most_bytes=MOST)([("job-0", None)])


def test_images_of_a_batch_come_in_one_round_trip_and_none_is_counted(redis: Redis, counted: Counted) -> None:
    """Given keys, a gap where an image rides in the message, and a long image, then what may be fetched ahead comes."""
    refs = [blobs.put(redis, data, ttl_s=60) for data in (b"a", b"b", bytes(begins.AHEAD_BYTES + 1))]
    begin = Begins(redis, counted, most_bytes=MOST)
    assert begin.images([refs[0], None, refs[1], refs[2]]) == [b"a", None, b"b", None]
    assert counted.trips == 1
    assert begin.images([None, None]) == [None, None]
    assert counted.trips == 1
    assert not redis.keys(wire.BEGUN_PREFIX + "*")
