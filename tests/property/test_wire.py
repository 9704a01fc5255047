"""Whatever stands in a message or in the result backend: a value of the contract, or an error of the fleet."""

import base64
import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import example, given, settings
from hypothesis import strategies as st

from producer import errors, wire
from producer.errors import BY_CODE, FleetError, InternalError
from producer.wire import Detection, Image, Options, Result

T = TypeVar("T")

quick = settings(deadline=None, max_examples=150)

huge = st.sampled_from([10**400, -(10**400), 2**63, 2**64])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | huge
    | st.floats()
    | st.text(max_size=30)
    | st.binary(max_size=30)
    | st.sampled_from(["fleet:blob:abc", "fleet:blob:", "AAAA", "a", "centerface", "NaN"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4),
    max_leaves=12,
)


def holding(*names: str) -> st.SearchStrategy[dict[str, object]]:
    """Make a dictionary of some of these names, with anything as values."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, anything))


def outcome(parse: Callable[[Any], T], raw: Any) -> T | None:
    """Give what ``parse`` makes of ``raw``, or None where it refuses with an error of the contract."""
    try:
        return parse(raw)
    except FleetError as caught:
        error = caught
    assert BY_CODE[error.code] is type(error)
    assert len(error.message) < 1000
    return None


# ------------------------------------------------------------------------------------------------------ requests


@quick
@given(raw=anything | holding("ref", "data"))
@example(raw={"data": "====" * 2})
@example(raw={"data": "Ω"})
@example(raw={"ref": "fleet:blob:../x\n"})
def test_any_image_is_read_or_refused(raw):
    """Exactly one of bytes and reference comes out, and bytes are bytes within the limit."""
    image = outcome(Image.parse, raw)

    if image is not None:
        assert (image.data is None) != (image.ref is None)
        assert image.data is None or 0 < len(image.data) <= wire.MAX_INLINE_BYTES
        assert image.ref is None or image.ref.startswith(wire.BLOB_PREFIX)
        assert Image.parse(image.to_json()) == image


@quick
@given(data=st.binary(min_size=1, max_size=2000))
def test_bytes_and_their_base64_text_are_the_same_image(data):
    """JSON and msgpack senders mean the same."""
    assert Image.parse({"data": data}) == Image.parse({"data": base64.b64encode(data).decode()}) == Image(data=data)


@quick
@given(
    raw=holding("v", "model", "min_score", "max_detections", "tile")
    | holding("min_score", "fleet", "x" * 50)
    | st.fixed_dictionaries({"tile": holding("size", "overlap") | holding("size", "fleet") | st.integers(0, 20_000)})
)
@example(raw={"min_score": 10**400})
@example(raw={"tile": {"overlap": 10**400}})
@example(raw={"tile": True})
@example(raw={"max_detections": True})
@example(raw={"v": 2.0})
def test_any_options_are_read_or_refused(raw):
    """What comes out is within its range, and says the same when it is sent on."""
    options = outcome(Options.parse, raw)

    if options is not None:
        assert options.min_score is None or 0 <= options.min_score <= 1
        assert options.max_detections is None or 1 <= options.max_detections <= wire.MAX_DETECTIONS
        assert options.model is None or wire.model_of(wire.queue_of(options.model)) == options.model
        if options.tile is not None:
            assert options.tile.size is None or 32 <= options.tile.size <= 16_384
            assert 0 <= options.tile.overlap <= 0.5
        assert Options.parse(options.to_json()) == options


@quick
@given(raw=anything | st.lists(st.none(), min_size=250, max_size=260))
def test_any_batch_is_a_list_of_a_few_or_refused(raw):
    """Its images are not looked at: each may be bad by itself."""
    images = outcome(wire.parse_images, raw)

    if images is not None:
        assert images == list(raw)
        assert 1 <= len(images) <= wire.MAX_BATCH


@quick
@given(args=anything | st.lists(holding("ref", "data"), max_size=5) | st.lists(st.lists(st.none()), max_size=1))
def test_any_arguments_can_be_shown_in_a_log(args):
    """Briefly, whatever they are, and without an image's bytes."""
    shown = wire.describe_images(args)

    assert isinstance(shown, str)
    assert len(shown) < 600


@quick
@given(queue=anything)
def test_any_routing_key_is_a_queue_of_ours_or_not(queue):
    """A message may come from anywhere."""
    model = wire.model_of(queue)

    assert model is None or queue == wire.QUEUE_PREFIX + model


# ------------------------------------------------------------------------------------------------------- results

reals = st.floats(allow_nan=False, allow_infinity=False)
detections = st.builds(
    Detection,
    label=st.text(max_size=20),
    label_id=st.integers(0, 1000),
    score=reals,
    box=st.tuples(reals, reals, reals, reals),
    keypoints=st.lists(st.tuples(reals, reals), max_size=6).map(tuple),
)
results = st.builds(
    Result,
    model=st.text(max_size=20),
    model_digest=st.text(max_size=16),
    width=st.integers(1, 30_000),
    height=st.integers(1, 30_000),
    detections=st.lists(detections, max_size=5).map(tuple),
    timings_ms=st.dictionaries(st.text(max_size=8), reals, max_size=6),
    worker=st.text(max_size=20),
)


@quick
@given(result=results)
def test_a_result_survives_being_stored_and_read(result):
    """To the last digit, by way of JSON text."""
    assert Result.parse(json.loads(json.dumps(result.to_json()))) == result


@quick
@given(raw=anything | holding("v", "model", "detections"))
def test_anything_in_the_backend_is_a_result_or_an_error(raw):
    """Another program may have written there."""
    _read(raw)


@quick
@given(result=results, name=st.sampled_from(["v", *Result.__dataclass_fields__]), value=anything)
@example(result=Result("m", "d", 1, 1, ()), name="timings_ms", value={"infer": 10**400})
@example(result=Result("m", "d", 1, 1, ()), name="timings_ms", value=[1, 2])
def test_a_result_with_one_field_changed_is_a_result_or_an_error(result, name, value):
    """One wrong value among good ones."""
    _read(result.to_json() | {name: value})


@quick
@given(detection=detections, name=st.sampled_from(sorted(Detection.__dataclass_fields__)), value=anything)
@example(detection=Detection("a", 0, 0.5, (0.0, 0.0, 1.0, 1.0)), name="score", value=10**400)
@example(detection=Detection("a", 0, 0.5, (0.0, 0.0, 1.0, 1.0)), name="box", value=[1, 2, 3, 10**400])
def test_a_detection_with_one_field_changed_is_a_result_or_an_error(detection, name, value):
    """Deeper down."""
    good = Result("m", "d", 1, 1, (detection,)).to_json()
    good["detections"] = [good["detections"][0] | {name: value}, value]
    _read(good)


def _read(raw: object) -> None:
    result = outcome(Result.parse, raw)

    if result is not None:
        json.dumps(result.to_json(), allow_nan=False)
        assert Result.parse(result.to_json()) == result


# -------------------------------------------------------------------------------------------------------- errors


@quick
@given(code=anything | st.sampled_from(sorted(BY_CODE)), message=anything | st.text(max_size=5000))
def test_any_code_and_message_make_an_error_of_the_fleet(code, message):
    """An unknown code is an internal error; the error can be built again from its own arguments."""
    error = errors.from_code(code, message)

    assert isinstance(error, FleetError)
    assert error.message
    assert len(error.message) <= 2000
    if isinstance(code, str) and code in BY_CODE:
        assert error.code == code
    else:
        assert type(error) is InternalError
    again = type(error)(*error.args)
    assert (again.code, again.message, again.args) == (error.code, error.message, error.args)
    assert error.to_json() == {"code": error.code, "message": str(error)}
