"""Runs what could end or hang the interpreter in a process of its own; wraps real requests to go wrong on purpose."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run(function: Callable[[], None], *, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """Run ``function``, importable by its name, in a new interpreter; kill it after ``timeout_s``."""
    found = f"importlib.import_module({function.__module__!r}).{function.__qualname__}"
    code = f"import importlib; found = {found}; getattr(found, 'body', found)()"
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)


def in_child(test: Callable[[], None]) -> Callable[[], None]:
    """Decorate a test: its body runs in a process of its own."""

    @functools.wraps(test)
    def outer() -> None:
        ended = run(test)
        assert ended.returncode == 0, f"status {ended.returncode}\n{ended.stdout}\n{ended.stderr}"

    outer.body = test  # type: ignore[attr-defined]
    return outer


class Wrapped:
    """A compiled network whose requests do their real work, with something of the test's around one of their calls.

    ``around`` gives, for the name of a method, what is called instead: ``function(real, *args)``.
    """

    def __init__(self, compiled: Any, **around: Callable[..., Any]) -> None:
        self._compiled = compiled
        self._around = around

    def input(self, index: int) -> Any:
        return self._compiled.input(index)

    @property
    def outputs(self) -> Any:
        return self._compiled.outputs

    def create_infer_request(self) -> Any:
        return _Request(self._compiled.create_infer_request(), self._around)


class _Request:
    def __init__(self, request: Any, around: dict[str, Callable[..., Any]]) -> None:
        self._request = request
        self._wrapped = around

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._request, name)
        return functools.partial(self._wrapped[name], real) if name in self._wrapped else real
