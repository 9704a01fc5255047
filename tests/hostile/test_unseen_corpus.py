"""Two thousand hostile files and messages against one real worker: each gets its answer, and nothing else happens."""

import json

import pytest

from producer.errors import BY_CODE, FleetError
from producer.wire import BLOB_PREFIX, Result
from tests.hostile import files
from tests.hostile.conftest import Victim
from tests.hostile.messages import ANY
from tests.waiting import eventually
from worker import decode
from worker.settings import Settings

#: Another seed makes another corpus.
SEED = 20261125
FILES = 1100
MESSAGES = 900

#: Most that the worker's memory may grow, MB.
GROWTH_MB = 50

LIMITS = decode.Limits(Settings().max_image_bytes, Settings().max_pixels)


def expected(data: bytes) -> str:
    """Say what the decoder, in this process, makes of a file."""
    try:
        decode.decode(data, LIMITS)
    except FleetError as error:
        return error.code
    return "result"


def code_of(answer: object) -> str:
    """Name an answer."""
    if isinstance(answer, FleetError):
        assert BY_CODE[answer.code] is type(answer)
        return answer.code
    return "result" if isinstance(answer, Result | list) else "none"


@pytest.mark.timeout(180)
def test_two_thousand_hostile_files_and_messages_get_their_answers_and_do_no_harm(victim: Victim) -> None:
    """Given files and messages made from a seed, then each has its typed error, and the worker is as before.

    The same process answers good images afterwards, its memory has not grown by more than 50 MB, every place in the
    pool is free, and Redis holds nothing but answers.
    """
    victim.assert_well()
    before_mb, maker, logged = victim.memory_mb(), victim.maker(SEED), len(victim.fleet.worker.log)
    wanted: dict[str, tuple[str, str]] = {}
    items = []
    for name, data in files.make(SEED, FILES):
        job_id = maker.job_id()
        key = f"{BLOB_PREFIX}{job_id}"
        victim.fleet.redis.set(key, data, ex=600)
        message = maker.good(job_id)
        message["body"] = [[{"ref": key}], {}, {}]
        items.append(maker.case(name, job_id, message).item)
        wanted[job_id] = (name, expected(data))
    cases = maker.all(MESSAGES)
    wanted |= {case.job_id: (case.name, case.code) for case in cases if case.job_id is not None}
    items += [case.item for case in cases]
    maker.chance.shuffle(items)

    victim.push(items)

    eventually(lambda: all(victim.answer(job_id) is not None for job_id in wanted), "the last answer")
    wrong = []
    for job_id, (name, code) in wanted.items():
        given = code_of(victim.answer(job_id))
        if given == "internal_error" or code not in (ANY, given):
            wrong.append((name, code, given, str(victim.answer(job_id))[:120]))
    assert not wrong, f"{len(wrong)}: {json.dumps(wrong[:40], indent=1)}"
    assert len(items) >= 2000
    victim.assert_well()
    assert victim.memory_mb() - before_mb < GROWTH_MB
    assert "Traceback" not in victim.fleet.worker.log[logged:]  # nothing was unforeseen
