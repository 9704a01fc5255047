"""Imports point one way: down one ladder, at the top of each module, and the two sides know what they may know."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import producer
import worker

PACKAGES = {"producer": Path(producer.__file__).parent, "worker": Path(worker.__path__[0])}

#: Module -> its syntax tree, of all modules of both packages.
TREES = {
    ".".join((name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): ast.parse(
        path.read_text()
    )
    for name, folder in PACKAGES.items()
    for path in folder.rglob("*.py")
}

#: What a worker may take from the client's package: the contract, and what stands in Redis by it.
SHARED = {
    "wire",
    "errors",
    "address",
    "redis_url",
    "blobs",
    "books",
    "clock",
    "dead",
    "draw",
    "envelope",
    "ids",
    "lines",
    "results",
    "scripts",
    "status",
}

#: The bench sends as any application does.
A_CLIENT = {"worker.bench.fleet"}

#: Stages that know nothing of Celery, and those that know nothing of OpenVINO.
NO_CELERY = {
    "infer_queue",
    "inference",
    "slots",
    "network",
    "decode",
    "jpeg",
    "resize",
    "inputs",
    "compiled_cache",
    "recognise",
    "store",
    "detector",
    "preparing",
    "overlaps",
    "accuracy",
    "quantize",
    "quantized",
    "tiles",
    "tiling",
    "models",
    "model_toml",
    "cpu",
    "settings",
    "admission",
    "lineup",
    "versions",
    "change",
    "trial",
    "room",
    "deaths",
    "ledger",
}
NO_OPENVINO = {
    "pool",
    "finishing",
    "jobs",
    "tasks",
    "app",
    "request",
    "bodies",
    "bootsteps",
    "consumer",
    "control",
    "mingle",
    "monitor",
    "swaps",
}


def imported(module: str) -> set[str]:
    """Give the full names of what a module imports at its top."""
    names: set[str] = set()
    for node in TREES[module].body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= parts if parts <= set(TREES) else parts | {node.module or ""}
    return names


def test_there_is_no_cycle() -> None:
    """Given all modules of both packages, then they can be put in an order in which each imports only from before."""
    graph = {module: (imported(module) & set(TREES)) - set(PACKAGES) for module in TREES}

    order = list(graphlib.TopologicalSorter(graph).static_order())

    assert {"producer.wire", "worker.pool"} < set(order)


@pytest.mark.parametrize("module", sorted(TREES))
def test_no_function_imports(module: str) -> None:
    """Given a module, then all its imports stand at its top."""
    every = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Import | ast.ImportFrom)]

    assert [node.lineno for node in every if node not in TREES[module].body] == []


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_knows_only_what_its_side_may_know(module: str) -> None:
    """Given a module, then the client's side never imports the worker's, and the worker's only the contract."""
    theirs = {name for name in imported(module) if name.split(".")[0] in set(PACKAGES) - {module.split(".", 1)[0]}}

    if module.startswith("producer"):
        assert theirs == set()
    else:
        shared = SHARED | ({"Client"} if module in A_CLIENT else set())
        assert {name.split(".")[1] for name in theirs if "." in name} <= shared


@pytest.mark.parametrize("module", sorted(TREES))
def test_celery_and_openvino_never_meet(module: str) -> None:
    """Given a module, then those of the inference know no Celery, and those of the delivery no OpenVINO."""
    roots = {name.split(".")[0] for name in imported(module)}
    _, _, stage = module.partition(".")
    if not module.startswith("worker"):
        return

    if stage in NO_CELERY or stage.startswith("heads"):
        assert not roots & {"celery", "kombu"}
    if stage in NO_OPENVINO:
        assert "openvino" not in roots


def test_the_image_s_stage_that_fetches_models_has_every_module_that_it_imports() -> None:
    """Given the modules that the Dockerfile copies to fetch models, then they are all that worker.models needs."""
    text = Path(__file__).parents[2].joinpath("Dockerfile").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("COPY worker/__init__.py"))
    copied = {word.removesuffix(".py").replace("/", ".") for word in line.split()[1:-1]}
    needed, more = set(), {"worker.models"}
    while more:
        needed |= more
        more = set().union(*(imported(module) & set(TREES) for module in more)) - needed
    assert copied == {one.replace(".__init__", "") for one in needed} - {"worker"} | {"worker.__init__"}


def test_importing_the_client_loads_nothing_heavy() -> None:
    """Given a fresh interpreter, when it imports producer and its command line, then no heavy package is loaded."""
    heavy = {"openvino", "cv2", "numpy", "celery", "kombu"}
    code = f"import sys, producer, producer.cli; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
