"""Compiled networks are kept in a folder, so that the second start is fast; whatever is wrong with it, all start."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from tests.unit.worker.conftest import Load
from worker import compiled_cache, models, network
from worker.model_toml import ModelSpec
from worker.network import Network
from worker.settings import Settings

SETTINGS = Settings(precision="f32")


@pytest.fixture
def blazeface(store: Path) -> tuple[ModelSpec, Path]:
    """The smallest real model."""
    return models.read("blazeface_short", store)


def came_from_cache(net: Network) -> bool:
    return bool(net.compiled.get_property("LOADED_FROM_CACHE"))


def test_a_second_start_takes_the_compiled_network_from_the_cache(blazeface, tmp_path, load: Load, decoded):
    """Even after another model was loaded in this process, and with the same answer; and the cache does not grow."""
    chosen = replace(SETTINGS, cache_dir=tmp_path / "new" / "cache")

    first = network.load(*blazeface, chosen, 2)
    files = sorted((tmp_path / "new" / "cache").iterdir())
    load("blazeface_back")
    second = network.load(*blazeface, chosen, 2)

    assert files
    assert not came_from_cache(first)
    assert came_from_cache(second)
    assert sorted((tmp_path / "new" / "cache").iterdir()) == files
    tensor = decoded("astronaut")[None, 40:168, 150:278]
    assert np.array_equal(*(next(iter(one.compiled({0: tensor}).values())).copy() for one in (first, second)))


def test_a_damaged_cache_is_made_anew(blazeface, tmp_path):
    """A disk that was full once does not keep workers from starting."""
    chosen = replace(SETTINGS, cache_dir=tmp_path)
    network.load(*blazeface, chosen, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:1000])

    assert not came_from_cache(network.load(*blazeface, chosen, 2))
    assert came_from_cache(network.load(*blazeface, chosen, 2))


def test_a_cache_that_cannot_be_made_is_done_without(blazeface, tmp_path, caplog):
    """A read-only container starts slower and says why."""
    (tmp_path / "file").write_text("")

    net = network.load(*blazeface, replace(SETTINGS, cache_dir=tmp_path / "file" / "cache"), 1)

    assert not came_from_cache(net)
    assert any(one.getMessage().startswith("network.no_cache folder=") for one in caplog.records)


def test_a_cache_that_fails_while_compiling_is_done_without(blazeface, tmp_path, caplog, monkeypatch):
    """Given another worker that filled the cache at the same moment, when OpenVINO trips, then it compiles anew.

    Seen: eight workers on an empty cache, "filesystem error: cannot set permissions" of a file that one had renamed.
    """
    whole, tries = ov.Core.compile_model, []

    def trips(core: ov.Core, *args: Any) -> Any:
        tries.append(core.get_property("CACHE_DIR"))
        compiled = whole(core, *args)
        if tries[-1]:
            raise RuntimeError("filesystem error: cannot set permissions: No such file or directory")
        return compiled

    monkeypatch.setattr(ov.Core, "compile_model", trips)

    net = network.load(*blazeface, replace(SETTINGS, cache_dir=tmp_path), 1)

    assert tries == [str(tmp_path), ""]
    assert not came_from_cache(net)
    assert any(one.getMessage().startswith("network.cache_failed folder=") for one in caplog.records)


#: Compiles a network on an empty cache when it is told to, as others are at that moment: argv is store and cache.
_AT_ONCE = """
import sys
from pathlib import Path
from typing import Any
from worker import models, network
from worker.settings import Settings
spec, path = models.read("blazeface_short", Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
network.load(spec, path, Settings(precision="f32", cache_dir=Path(sys.argv[2])), 1)
"""


def test_processes_that_fill_one_cache_at_once_all_start(store, tmp_path):
    """Given six processes and an empty folder, then none ends by a signal or an error: they take turns."""
    command, pipe = [sys.executable, "-c", _AT_ONCE, str(store), str(tmp_path)], subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(6)]
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 6
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()

    said = [process.communicate(timeout=90)[1] for process in started]

    assert [process.returncode for process in started] == [0] * 6, said
    assert len(list(tmp_path.glob("*.blob"))) == 1


def test_who_gets_no_turn_is_told_so(tmp_path, caplog):
    """Given another process that keeps the folder, then one waits no longer than told; afterwards it is free."""
    with compiled_cache.turn(tmp_path) as ours, compiled_cache.turn(tmp_path, within_s=0.1) as too:
        assert (ours, too) == (True, False)
    with compiled_cache.turn(tmp_path) as again:
        assert again
    with compiled_cache.turn(None) as nowhere:
        assert not nowhere
    assert any("no turn within" in one.getMessage() for one in caplog.records)
