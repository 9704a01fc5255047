"""What a process of ours leaves out when it starts."""

import subprocess
import sys

import pytest


def python(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run an interpreter of its own."""
    return subprocess.run([sys.executable, "-P", *words], capture_output=True, text=True, timeout=60, check=False)


def run(code: str) -> str:
    """Run ``code`` in an interpreter of its own and return what it prints."""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_openvino_comes_without_its_converter_which_can_be_had_afterwards() -> None:
    """Given OpenVINO, imported leanly, then it works, its converter is not loaded, and may still be asked for."""
    code = """
import sys
from worker.lean import lean
with lean():
    import openvino
print("openvino.tools.ovc" in sys.modules, bool(openvino.Core))
from openvino.tools.ovc import convert_model
print(callable(convert_model))
"""
    assert run(code).splitlines() == ["False True", "True"]


def test_a_converter_that_is_loaded_stays() -> None:
    """Given a program that has the converter already, when it imports leanly, then it keeps it."""
    code = """
import sys
import openvino.tools.ovc as before
from worker.lean import lean
with lean():
    import worker.network
print(sys.modules["openvino.tools.ovc"] is before)
"""
    assert run(code) == "True"


def test_the_collector_rests_and_works_again_even_if_an_import_fails() -> None:
    """Given an import that fails, then the collector was off for it, and is on afterwards."""
    code = """
import gc
from worker.lean import lean
try:
    with lean():
        print(gc.isenabled())
        import nothing_of_this_name
except ImportError:
    print(gc.isenabled())
"""
    assert run(code).split() == ["False", "True"]


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "worker", "--help"],
        ["-c", "import sys; from worker.entry import main; sys.argv = ['fleet-worker', 'run', '--', '--help']; main()"],
    ],
)
def test_a_worker_has_celerys_options_and_not_celerys_other_commands(command: list[str]) -> None:
    """Given a worker's help, then it is that of Celery's worker, and neither Flower nor Celery's shell was loaded."""
    done = python("-X", "importtime", *command)

    assert "--without-mingle" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "celery.bin.worker" in loaded
    assert (
        loaded & {"celery.bin.celery", "celery.bin.amqp", "flower", "click_repl", "openvino.tools.ovc.convert"} == set()
    )


def test_an_option_that_celery_does_not_know_is_said_so() -> None:
    """Given a wrong option, then the worker ends with 2 and one sentence."""
    done = python("-m", "worker", "--no-such")

    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr
