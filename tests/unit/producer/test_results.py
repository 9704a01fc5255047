"""What Celery stored, read without trusting it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import (
    Cancelled,
    DeadlineExceeded,
    FleetError,
    InternalError,
    InvalidImage,
    Result,
    UnsupportedVersion,
)
from producer.errors import BY_CODE
from producer.results import read_meta

GOOD = Result("m", "d", 4, 3, (), {"infer": 1.0}, "w")


def meta(status: str, result: Any) -> bytes:
    """Write what Celery writes."""
    return json.dumps({"status": status, "result": result, "traceback": None, "children": [], "task_id": "x"}).encode()


def failure(kind: str, *words: Any, status: str = "FAILURE") -> bytes:
    """Write an exception as Celery does."""
    return meta(status, {"exc_type": kind, "exc_message": list(words), "exc_module": "somewhere"})


def test_a_success_is_a_result() -> None:
    """Given SUCCESS, then the result, equal to what was stored."""
    assert read_meta(meta("SUCCESS", GOOD.to_json())) == GOOD


def test_a_batch_is_a_list_of_results_and_errors() -> None:
    """Given a list, then each item is read by itself, the unreadable ones too."""
    stored = [GOOD.to_json(), {"error": {"code": "invalid_image", "message": "No."}}, {"error": 3}, None]
    first, second, third, fourth = read_meta(meta("SUCCESS", stored))
    assert first == GOOD
    assert isinstance(second, InvalidImage)
    assert isinstance(third, InternalError)
    assert isinstance(fourth, InternalError)


@pytest.mark.parametrize("code", sorted(BY_CODE))
@pytest.mark.parametrize("status", ["FAILURE", "REVOKED"])
def test_the_fleets_own_errors_come_back_in_their_class(code: str, status: str) -> None:
    """Given a stored error of ours, then the same class with the same sentence."""
    error = read_meta(failure(BY_CODE[code].__name__, "A sentence.", code, status=status))
    assert type(error) is BY_CODE[code]
    assert str(error) == "A sentence."


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (failure("TaskRevokedError", "expired", status="REVOKED"), DeadlineExceeded),
        (failure("TaskRevokedError", "revoked", status="REVOKED"), Cancelled),
        (failure("TaskRevokedError", "terminated", status="REVOKED"), Cancelled),
        (failure("TimeLimitExceeded", 30), DeadlineExceeded),
        (failure("SoftTimeLimitExceeded"), DeadlineExceeded),
        (failure("ZeroDivisionError", "division by zero"), InternalError),
        (failure("WorkerLostError", "signal 9"), InternalError),
        (meta("REVOKED", None), Cancelled),
        (meta("FAILURE", None), InternalError),
        (meta("SUCCESS", None), InternalError),
        (meta("SUCCESS", {**GOOD.to_json(), "v": 99}), UnsupportedVersion),
        (meta("SUCCESS", {**GOOD.to_json(), "timings_ms": {"infer": 10**400}}), InternalError),
        (meta("SUCCESS", [GOOD.to_json()] * 1000), InternalError),
        (b"", InternalError),
        (b"not json", InternalError),
        (b"\xff\xfe", InternalError),
        (b"[" * 100_000, InternalError),
        (b"[]", InternalError),
        (b'{"status": 3}', InternalError),
    ],
)
def test_every_other_end_has_one_error(raw: bytes, expected: type[FleetError]) -> None:
    """Given what Celery, or nobody, would write, then exactly one typed error."""
    assert type(read_meta(raw)) is expected


@pytest.mark.parametrize("raw", [None, *(meta(status, None) for status in ("PENDING", "STARTED", "RETRY", "RECEIVED"))])
def test_a_job_that_goes_on_has_no_outcome(raw: bytes | None) -> None:
    """Given a status that is not final, then None."""
    assert read_meta(raw) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    """Given any bytes, then an outcome or None."""
    read_meta(raw)


@given(st.sampled_from(["SUCCESS", "FAILURE", "REVOKED", "RETRY"]), JSON)
def test_no_result_makes_it_raise(status: str, result: Any) -> None:
    """Given any JSON where a result should be, then an outcome or None."""
    outcome = read_meta(meta(status, result))
    assert outcome is None or isinstance(outcome, Result | list | FleetError)


@given(st.sampled_from(sorted(GOOD.to_json())), JSON)
def test_one_wrong_field_makes_an_error_and_never_a_crash(name: str, value: Any) -> None:
    """Given a result with one field replaced by any JSON, then a result or a typed error."""
    outcome = read_meta(meta("SUCCESS", {**GOOD.to_json(), name: value}))
    assert isinstance(outcome, Result | FleetError)
