"""What each model takes is measured, and told for all that a worker serves."""

from worker import footprint


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
