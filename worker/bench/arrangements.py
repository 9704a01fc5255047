"""Ways to arrange decode and network in one process without a queue: the limit, and the three servers.

Stage: what a child process (:mod:`worker.bench.child`) runs. An arrangement is a function from the task to
:data:`Serve`: encoded images in, boxes out, returns when all are done.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from worker.bench.engine import Answer, Engine
from worker.bench.task import Task
from worker.infer_queue import InferQueue
from worker.inference import Array
from worker.resize import Frame

Serve = Callable[[Sequence[bytes]], list[Answer]]

#: Threads of the server that starts and waits, as many as in the question that this project answers.
WAITING_THREADS = 4


def streams(task: Task) -> Serve:
    """As many streams as cores, and a thread for each that decodes and infers: the limit."""
    return _in_threads(Engine(task, threads=task.cores, streams=task.cores, hint="THROUGHPUT"), task.cores)


def one_core(task: Task) -> Serve:
    """One thread, one stream, one core: run once per core, it is the limit of the other arrangement."""
    return _in_threads(Engine(task, threads=1, streams=1), 1)


def synchronous(task: Task) -> Serve:
    """Decode, infer, wait, next; OpenVINO as it is when told nothing: all cores on one image."""
    return _in_threads(Engine(task, threads=task.cores), 1)


def start_and_wait(task: Task) -> Serve:
    """Four threads, each starts a request of its own and waits for it: asynchronous in name."""
    engine = Engine(task, threads=task.cores)
    requests = [engine.request() for _ in range(WAITING_THREADS)]
    pool = ThreadPoolExecutor(WAITING_THREADS)

    def work(number: int, images: Sequence[bytes]) -> list[Answer]:
        request, answers = requests[number], []
        for data in images:
            tensor, frame = engine.prepare(data)
            request.start_async({0: tensor}, share_inputs=True)
            request.wait()
            answers.append(engine.answer(request.get_output_tensor(0).data, frame))
        return answers

    def serve(images: Sequence[bytes]) -> list[Answer]:
        shares = [images[number::WAITING_THREADS] for number in range(WAITING_THREADS)]
        return _interleaved(list(pool.map(work, range(WAITING_THREADS), shares)))

    return serve


def asynchronous(task: Task) -> Serve:
    """No thread waits for an inference: decode threads submit and go on, results are handled as they come."""
    engine = Engine(task, threads=task.cores, hint="THROUGHPUT")
    optimal = int(engine.properties["optimal_number_of_infer_requests"])
    queue = InferQueue(engine.compiled, max(2, 2 * optimal))
    pool = ThreadPoolExecutor(max(2, min(8, task.cores)))

    def begin(data: bytes) -> tuple[Future[Array], Frame]:
        tensor, frame = engine.prepare(data)
        return queue.submit(tensor), frame

    def serve(images: Sequence[bytes]) -> list[Answer]:
        begun = pool.map(begin, images)
        return [engine.answer(flight.result(), frame) for flight, frame in begun]

    return serve


ARRANGEMENTS: dict[str, Callable[[Task], Serve]] = {
    "streams": streams,
    "one_core": one_core,
    "synchronous": synchronous,
    "start_and_wait": start_and_wait,
    "asynchronous": asynchronous,
}


def _in_threads(engine: Engine, threads: int) -> Serve:
    """Each thread takes the next image, decodes it and infers, all by itself."""
    requests = [engine.request() for _ in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def serve(images: Sequence[bytes]) -> list[Answer]:
        answers: list[Answer] = [[] for _ in images]
        numbers = itertools.count()  # next() on it is atomic

        def work(request: object) -> None:
            while (number := next(numbers)) < len(images):
                answers[number] = engine.detect(images[number], request)

        list(pool.map(work, requests))
        return answers

    return serve


def _interleaved(shares: list[list[Answer]]) -> list[Answer]:
    """Undo ``images[number::count]``."""
    return [shares[index % len(shares)][index // len(shares)] for index in range(sum(map(len, shares)))]
