"""A model is a folder with a network and a ``model.toml``; each mistake in it is named."""

import hashlib
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker import assets, models
from worker.heads import HEADS
from worker.model_toml import ModelSpec, from_toml, to_toml
from worker.models import KNOWN, ModelError

GOOD = """
file = "net.onnx"
head = "centerface"
input_size = [480, 640]
labels = ["face"]
"""


def put(store: Path, text: str, *, network: str | None = "net.onnx", name: str = "mine") -> Path:
    folder = store / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    if network is not None:
        (folder / network).write_bytes(b"weights")
    return folder


# ------------------------------------------------------------------------------------------------- model.toml


def test_a_short_description_has_defaults_for_the_rest(tmp_path):
    """Four lines describe a model of an ordinary kind."""
    put(tmp_path, GOOD)

    spec, path = models.read("mine", tmp_path)

    assert spec == ModelSpec("mine", "net.onnx", "centerface", (480, 640), ("face",))
    assert path == tmp_path / "mine" / "net.onnx"


@pytest.mark.parametrize("spec", KNOWN.values(), ids=lambda spec: spec.name)
def test_a_known_model_s_description_survives_being_written_and_read(spec):
    """What fetch writes is what read understands."""
    assert from_toml(spec.name, tomllib.loads(to_toml(spec))) == spec
    assert spec.head in HEADS
    assert spec.name in assets.ASSETS


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
triples = st.tuples(*[st.floats(-1e6, 1e6)] * 3)
specs = st.builds(
    ModelSpec,
    name=st.just("mine"),
    file=st.just("net.xml"),
    head=texts,
    input_size=st.tuples(st.integers(1, 16_384), st.integers(1, 16_384)),
    labels=st.lists(texts, min_size=1, max_size=5).map(tuple),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    colour=st.sampled_from(["RGB", "BGR"]),
    mean=triples,
    scale=triples.filter(all),
    resize=st.sampled_from(["letterbox", "stretch"]),
    pad=st.integers(0, 255),
    pad_at=st.sampled_from(["centre", "top_left"]),
    multiple=st.integers(1, 1024),
    shrinking=st.sampled_from(["area", "linear"]),
    precision=st.sampled_from(["", "f32", "bf16", "f16"]),
    version=st.integers(1, 10**9),
    digest=texts,
    min_score=st.floats(0, 1),
    iou=st.floats(0, 1),
    options=st.dictionaries(
        st.from_regex(r"[a-z_]{1,10}", fullmatch=True), texts | st.booleans() | st.integers(-(2**63), 2**63 - 1)
    ),
)


@settings(deadline=None)
@given(spec=specs)
def test_any_description_survives_being_written_and_read(spec):
    """Labels in any script, quotes, control characters, tiny and large numbers, truths."""
    assert from_toml("mine", tomllib.loads(to_toml(spec))) == spec


@pytest.mark.parametrize("field", ["file", "head", "input_size", "labels"])
def test_a_missing_field_is_named(tmp_path, field):
    """As it is written in the file."""
    put(tmp_path, "\n".join(line for line in GOOD.splitlines() if not line.startswith(field)))

    with pytest.raises(ModelError, match=rf"model\.toml is wrong: the field '{field}' is missing"):
        models.read("mine", tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('file = "../../etc/passwd"', "file is the name of a file in the model's own folder"),
        ('file = "/etc/passwd"', "file is the name of a file"),
        ('file = ".."', "file is the name of a file"),
        ('file = ""', "file is the name of a file"),
        ("file = 1", "file is the name of a file"),
        ("head = 1", "head is the name of a head"),
        ("input_size = 640", r"input_size is \[height, width\] in pixels, 1 to 16384, not 640"),
        ("input_size = [640]", "input_size is"),
        ("input_size = [0, 640]", "input_size is"),
        ("input_size = [480.5, 640]", "input_size is"),
        ("input_size = [480, 16385]", "input_size is"),
        ('input_size = ["480", "640"]', "input_size is"),
        ("input_size = [true, 640]", "input_size is"),
        ("labels = []", "labels is a list of at least one text"),
        ('labels = "face"', "labels is a list of at least one text, not 'face'"),
        ("labels = [1]", "labels is"),
        ('layout = "HWC"', "layout is NCHW or NHWC, not 'HWC'"),
        ("layout = []", "layout is"),
        ('colour = "rgb"', "colour is RGB or BGR, not 'rgb'"),
        ("mean = 127.5", "mean is three numbers, not 127.5"),
        ("mean = [1, 2]", "mean is three numbers"),
        ("mean = [1, 2, nan]", "mean is three numbers"),
        ("scale = [1, 0, 1]", "scale is three numbers, none of them 0"),
        ("scale = [1, 1, inf]", "scale is three numbers"),
        ('resize = "crop"', "resize is letterbox or stretch or multiple, not 'crop'"),
        ("resize = []", "resize is"),
        ('resize = "multiple"\nmultiple = 33', "input_size is of multiples of 33 with resize multiple"),
        ("pad = 256", "pad is a whole number from 0 to 255, not 256"),
        ("pad = true", "pad is a whole number"),
        ('pad_at = "left"', "pad_at is centre or top_left, not 'left'"),
        ("multiple = 0", "multiple is a whole number from 1 to 1024"),
        ('shrinking = "cubic"', "shrinking is area or linear"),
        ('precision = "int8"', "precision is f32, bf16 or f16"),
        ("version = 0", "version is a whole number from 1"),
        ("digest = 1", "digest is a text"),
        ('min_score = "high"', "min_score is a number from 0 to 1, not 'high'"),
        ("min_score = 50", "min_score is a number from 0 to 1, not 50"),
        ("iou = -0.1", "iou is a number from 0 to 1"),
        ("iou = nan", "iou is a number from 0 to 1"),
        ("iou = true", "iou is a number from 0 to 1"),
        (f"iou = 1{'0' * 400}", "iou is a number from 0 to 1"),
        ("options = 1", "options is a table"),
        ("color = 'RGB'", "unknown field 'color'; there are colour, digest, file, head"),
        ("name = 'other'", "unknown field 'name'"),
        ("labels = [", "is wrong: "),
    ],
)
def test_a_wrong_field_is_named_with_what_it_should_be(tmp_path, line, told):
    """One sentence that begins with the path of the file."""
    field = line.split(" ")[0]
    put(tmp_path, "\n".join([*(one for one in GOOD.splitlines() if not one.startswith(field)), line]))

    with pytest.raises(ModelError, match=told) as caught:
        models.read("mine", tmp_path)

    assert str(caught.value).startswith(f"{tmp_path / 'mine' / 'model.toml'} is wrong: ")
    assert len(str(caught.value)) < 500


def test_a_description_that_is_no_text_is_wrong(tmp_path):
    """A network saved under the wrong name, say."""
    put(tmp_path, GOOD)
    (tmp_path / "mine" / "model.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ModelError, match=r"model\.toml is wrong"):
        models.read("mine", tmp_path)


def test_a_model_that_is_not_there_says_how_to_get_it(tmp_path):
    """A known one can be fetched, another must be put there."""
    with pytest.raises(ModelError, match=r"no model 'centerface' in .*Run: fleet-worker models fetch centerface"):
        models.read("centerface", tmp_path)
    with pytest.raises(ModelError, match=r"no model 'mine' in .*Put its network and a model\.toml there"):
        models.read("mine", tmp_path)


def test_a_store_that_is_no_folder_is_told(tmp_path):
    """A path that was mistyped ends in a sentence."""
    (tmp_path / "store").write_text("")

    with pytest.raises(ModelError, match="cannot be read"):
        models.read("mine", tmp_path / "store")
    with pytest.raises(ModelError, match="Cannot make"):
        models.fetch("centerface", tmp_path / "store")


def test_a_network_that_is_not_there_is_named(tmp_path):
    """The description alone is not enough."""
    put(tmp_path, GOOD, network=None)

    with pytest.raises(ModelError, match=r"names the network 'net\.onnx', which is not there"):
        models.read("mine", tmp_path)


# ------------------------------------------------------------------------------------------------------- fetch


def test_fetching_a_known_model_twice_changes_nothing(store):
    """Not even the times of its files; so a worker may fetch at every start."""
    folder = store / "blazeface_short"
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}

    assert models.fetch("blazeface_short", store) == folder

    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()} == before
    assert set(before) == {"model.toml", KNOWN["blazeface_short"].file}


def test_a_description_that_its_owner_changed_is_kept(store, tmp_path):
    """Fetching again does not undo another threshold."""
    spec = replace(KNOWN["blazeface_short"], min_score=0.25)
    network = store / "blazeface_short" / spec.file
    put(tmp_path, to_toml(spec), network=None, name="blazeface_short")
    (tmp_path / "blazeface_short" / spec.file).write_bytes(network.read_bytes())

    models.fetch("blazeface_short", tmp_path)

    assert models.read("blazeface_short", tmp_path)[0].min_score == 0.25


def test_an_unknown_model_cannot_be_fetched(tmp_path):
    """And the known ones are named; nothing is left behind."""
    with pytest.raises(ModelError, match=r"no known model 'yolo'; there are centerface, blazeface_short"):
        models.fetch("yolo", tmp_path)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ digest


def test_a_digest_is_the_start_of_the_file_s_sha256(tmp_path):
    """So that anybody can check it with sha256sum."""
    path = put(tmp_path, GOOD) / "net.onnx"

    assert models.digest(path) == hashlib.sha256(b"weights").hexdigest()[:16]


def test_the_digest_of_an_ir_network_covers_its_weights(tmp_path):
    """Two networks of one shape and different weights are different models."""
    (tmp_path / "net.xml").write_bytes(b"graph")
    alone = models.digest(tmp_path / "net.xml")
    (tmp_path / "net.bin").write_bytes(b"weights")
    first = models.digest(tmp_path / "net.xml")
    (tmp_path / "net.bin").write_bytes(b"other weights")

    assert len({alone, first, models.digest(tmp_path / "net.xml")}) == 3
