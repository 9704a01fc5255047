"""What each model takes is measured, and told for all that a worker serves."""

import re
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from worker import cli, footprint, settings


@pytest.fixture(autouse=True)
def _read_settings_anew() -> Iterator[None]:
    """A process reads its settings once; each test's are its own."""
    settings.load.cache_clear()
    yield
    settings.load.cache_clear()


def test_the_models_and_their_sum_are_told(store, monkeypatch):
    """Given two models and one that is not there, then each has its line, and the sum is of those that are there."""
    monkeypatch.setenv("FLEET_MODEL_STORE", str(store))
    monkeypatch.setenv("FLEET_STREAMS", "1")
    monkeypatch.setenv("FLEET_CACHE_DIR", "")

    said = footprint.explain(("blazeface_short", "centerface", "nobody"))

    assert said[0].startswith("Model blazeface_short: 1 streams, 2 requests, ")
    assert said[2] == "Model nobody: cannot be loaded; fleet-worker models show nobody says why."
    assert said[3].startswith("Together: 2 streams, 4 requests, ")
    sizes = [int(line.rpartition(", ")[2].removesuffix(" MiB.").replace(",", "")) for line in (*said[:2], said[3])]
    assert abs(sizes[0] + sizes[1] - sizes[2]) <= 1
    assert 5 < sizes[1] < 1000


def test_show_states_what_a_model_takes_in_a_worker(store, monkeypatch):
    """Given a model, then its memory is told with its parts, and more requests take more."""
    monkeypatch.setenv("FLEET_MODEL_STORE", str(store))
    monkeypatch.setenv("FLEET_STREAMS", "1")
    monkeypatch.setenv("FLEET_CACHE_DIR", "")
    parts = {}
    for requests in (2, 16):
        monkeypatch.setenv("FLEET_REQUESTS", str(requests))
        settings.load.cache_clear()

        said = CliRunner().invoke(cli.main, ["models", "show", "centerface"], catch_exceptions=False).output

        found = re.search(
            rf"in a worker: (\d+) MiB, of which (\d+) MiB for the network and (\d+) MiB for {requests} requests", said
        )
        assert found, said
        parts[requests] = [int(number) for number in found.groups()]
    for total, network, requests_part in parts.values():
        assert abs(network + requests_part - total) <= 1
        assert network > 5
    assert parts[16][2] > parts[2][2]
    assert parts[16][0] > parts[2][0]


def test_a_model_that_cannot_be_loaded_is_shown_all_the_same(store, monkeypatch, tmp_path):
    """Given a model whose network is damaged, then its files are shown, and that its memory is not known."""
    damaged = tmp_path / "hurt"
    damaged.mkdir()
    for path in (store / "blazeface_short").iterdir():
        (damaged / path.name).write_bytes(path.read_bytes() if path.suffix == ".toml" else b"hurt")
    monkeypatch.setenv("FLEET_MODEL_STORE", str(tmp_path))

    done = CliRunner().invoke(cli.main, ["models", "show", "hurt"], catch_exceptions=False)

    assert done.exit_code == 0
    assert "memory in a worker: not known; models check hurt PHOTO says why" in done.output
