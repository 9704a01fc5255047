"""Interrupts code before any of its statements, as Ctrl-C may.

A call is compiled in before each statement, and raises when it is its turn. A trace function could raise there too, but
Python 3.11 does not always survive it.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

#: What is called before each statement, as a global of the module.
MARK = "__before_statement__"


class Interrupt:
    """Raises in place of the statement with a certain number, of those that are met while it is armed.

    Attributes:
        armed: whether statements count.
        at: the number of the one to raise at; the first is 1.
        met: where it raised, as file and line; None until then.
    """

    def __init__(self) -> None:
        self.armed = False
        self.at = 0
        self.met: str | None = None
        self._left = 0

    def arm(self, at: int) -> None:
        """Begin to count."""
        self.armed, self.at, self.met, self._left = True, at, None, at

    def __call__(self, place: str) -> None:
        """Be called before the statement at ``place``."""
        if not self.armed:
            return
        self._left -= 1
        if self._left == 0:
            self.met = place
            raise KeyboardInterrupt


def compile_in(monkeypatch: pytest.MonkeyPatch, module: ModuleType, interrupt: Interrupt) -> None:
    """Have each statement of each function of ``module`` preceded by a call of ``interrupt``."""
    path = Path(inspect.getfile(module))
    tree = ast.fix_missing_locations(_Marks(path.name).visit(ast.parse(path.read_text())))
    marked = {_place(code): code for code in _codes(compile(tree, str(path), "exec"))}
    monkeypatch.setattr(module, MARK, interrupt, raising=False)
    for function in _functions(module):
        monkeypatch.setattr(function, "__code__", marked[_place(function.__code__)])


class _Marks(ast.NodeTransformer):
    """Puts a call before each statement that is not one of a module or of a class."""

    def __init__(self, file: str) -> None:
        self._file = file

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if not isinstance(node, ast.Module | ast.ClassDef):
            for field in ("body", "orelse", "finalbody"):
                if isinstance(statements := getattr(node, field, None), list):
                    setattr(node, field, [each for one in statements for each in (self._mark(one), one)])
        return node

    def _mark(self, statement: ast.stmt) -> ast.stmt:
        place = ast.Constant(f"{self._file}:{statement.lineno}")
        call = ast.Call(ast.Name(MARK, ast.Load()), [place], [])
        return ast.copy_location(ast.Expr(call), statement)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _codes(value)


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """Give the functions that are written in ``module``, and those of its classes."""
    owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
    for owner in owners:
        for value in vars(owner).values():
            plain = inspect.unwrap(getattr(value, "__func__", None) or getattr(value, "fget", None) or value)
            if isinstance(plain, FunctionType) and plain.__code__.co_filename == inspect.getfile(module):
                yield plain
