"""Redis goes away under load and comes back: restarted, after a pause, or without its data."""

import os

from producer import Client
from producer.errors import DeadlineExceeded
from tests.faults.conftest import StartWorkers
from tests.faults.load import Load, Observer, assert_all_answered, assert_resumes
from tests.integration.kit import MODEL
from tests.servers import Broker
from tests.waiting import eventually

#: Seconds of a pause: longer than every time limit of worker and client; 30 is longer than the leases as well.
PAUSE_S = float(os.environ.get("TEST_PAUSE_S", "7"))

#: What a worker says that has noticed.
LOST = "Connection to broker lost"


def test_five_restarts_under_load_lose_nothing(broker: Broker, picture: bytes, start_workers: StartWorkers) -> None:
    """Given append-only on, when Redis is killed five times, then each accepted job is answered, and none twice."""
    workers = start_workers(broker.url)
    with Client(broker.url) as client, Observer(broker.url) as observer, Load(client, picture) as load:
        for _ in range(5):
            assert_resumes(load)
            noticed = [worker.log.count(LOST) for worker in workers]
            broker.kill()
            for worker, before in zip(workers, noticed, strict=True):
                eventually(lambda worker=worker, before=before: worker.log.count(LOST) > before, "the loss")
            broker.start()
        assert_resumes(load)
        eventually(lambda: len(load.accepted) > 100, "enough jobs to tell")
        assert_all_answered(load, observer)


def test_a_pause_is_outlived(broker: Broker, picture: bytes, start_workers: StartWorkers) -> None:
    """Given a server that stands still with its connections open, when it goes on, then so do clients and workers."""
    start_workers(broker.url)
    with Client(broker.url) as client, Observer(broker.url) as observer, Load(client, picture) as load:
        assert_resumes(load)
        broker.pause(PAUSE_S)
        assert_resumes(load)
        assert_all_answered(load, observer)


def test_a_long_absence_is_outlived(broker: Broker, picture: bytes, start_workers: StartWorkers) -> None:
    """Given no server for longer than anybody waits, then the client says so, and all resume soon after its return."""
    start_workers(broker.url, 1)
    with Client(broker.url) as client, Observer(broker.url) as observer, Load(client, picture) as load:
        assert_resumes(load)
        broker.kill()
        eventually(lambda: len(load.refused) > 1, "refused submits")
        assert {error.code for error in load.refused} == {"unreachable"}
        broker.start()
        assert_resumes(load)
        assert_all_answered(load, observer)


def test_lost_data_is_a_typed_error_by_the_deadline(
    broker: Broker, picture: bytes, start_workers: StartWorkers
) -> None:
    """Given jobs that Redis forgot, then each ends in an error by its deadline, and new jobs are answered."""
    with Client(broker.url, model=MODEL) as client:
        lost = [client.submit(picture, deadline_s=3) for _ in range(5)]
        broker.kill()
        broker.lose_data()
        broker.start()
        start_workers(broker.url, 1)
        assert client.detect(picture, deadline_s=10).model == MODEL
        assert {type(job.error(timeout=10)) for job in lost} == {DeadlineExceeded}
        broker.kill()
        broker.lose_data()
        broker.start()
        assert client.detect(picture, deadline_s=10).model == MODEL
