"""Whether the tests notice when the code is wrong: python -m benchmarks.mutation MODULE TEST... [--part K/N]

Changes one operator, comparison or number of a module (mclip/geometry.py, say) at a time, runs its tests on it,
and prints the changes after which all of them still pass: each needs a better test, or is one that no test could tell
from the code as it is. Every change runs in a process of its own that is forked after numpy, scipy and pytest were
loaded; on Linux and macOS. The last line is one JSON object. --part tries every Nth change only, from the Kth on.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.util
import io
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
# What an unchanged module's tests take, many times over: a change may make a loop endless.
PATIENCE = 10
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
}


class _Mutator(ast.NodeTransformer):
    """Makes the change of one number; counts them all."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.count, self.made = wanted, 0, ""

    def _now(self) -> bool:
        self.count += 1
        return self.count - 1 == self.wanted

    def _swapped(self, operator: Any, line: int) -> Any:
        other = _SWAPS.get(type(operator))
        if other is None or not self._now():
            return operator
        self.made = f"{line}: {type(operator).__name__} becomes {other.__name__}"
        return other()

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not (isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant)):
            node.op = self._swapped(node.op, node.lineno)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        node.op = self._swapped(node.op, node.lineno)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        node.ops = [self._swapped(operator, node.lineno) for operator in node.ops]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.USub) and self._now():
            self.made = f"{node.lineno}: without {type(node.op).__name__}"
            return node.operand
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if isinstance(value, bool):
            other: Any = not value
        elif isinstance(value, int | float):
            other = value + 1
        else:
            return node
        if not self._now():
            return node
        self.made = f"{node.lineno}: {value!r} becomes {other!r}"
        return ast.copy_location(ast.Constant(other), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        # Annotations are no code.
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return node


def mutants(source: str, path: str) -> Iterator[tuple[str, CodeType]]:
    """Every change of a module, in words, and the module with it."""
    tree, number = ast.parse(source), 0
    while True:
        mutator = _Mutator(number)
        changed = ast.fix_missing_locations(mutator.visit(copy.deepcopy(tree)))
        if not mutator.made:
            return
        yield mutator.made, compile(changed, path, "exec")
        number += 1


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives out one module as other code."""

    def __init__(self, name: str, code: CodeType) -> None:
        self.name, self.code = name, code

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        package = Path(self.code.co_filename).name == "__init__.py"
        found = importlib.util.spec_from_loader(name, self, origin=self.code.co_filename, is_package=package)
        if found is not None:
            found.has_location = True
        return found

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)


def _run(name: str, code: CodeType, tests: list[str], seconds: float) -> int:
    import hypothesis
    import pytest

    os.setsid()
    signal.alarm(max(1, round(seconds)))
    sys.meta_path.insert(0, _Instead(name, code))
    # The same examples for every change, and few.
    hypothesis.settings.register_profile("mutation", deadline=None, derandomize=True, database=None, max_examples=20)
    quiet = [
        "-x",
        "-q",
        "--hypothesis-profile=mutation",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return int(pytest.main([*quiet, *tests]))


def passes(name: str, code: CodeType, tests: list[str], seconds: float) -> bool:
    """Whether the tests pass on a module's code; not if they take longer than that."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        result = 1
        try:
            result = _run(name, code, tests, seconds)
        finally:
            os._exit(result)
    _, status = os.waitpid(child, 0)
    return status == 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Change a module in many ways; say which changes its tests miss.")
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args()
    os.chdir(ROOT)
    for heavy in ("numpy", "scipy.spatial.transform", "pytest", "hypothesis", "hypothesis.extra.numpy"):
        importlib.import_module(heavy)
    name = ".".join(options.module.with_suffix("").parts).removesuffix(".__init__")
    source, path = options.module.read_text(encoding="utf-8"), str(options.module.resolve())
    start = time.perf_counter()
    if not passes(name, compile(source, path, "exec"), options.tests, 3600):
        sys.exit("the tests fail on the module as it is")
    patience = 20 + PATIENCE * (time.perf_counter() - start)
    first, step = map(int, options.part.split("/"))
    tried, survivors = 0, []
    lines = source.splitlines()
    for change, code in list(mutants(source, path))[first::step]:
        tried += 1
        if passes(name, code, options.tests, patience):
            survivors.append(change)
            print(f"{options.module}:{change}    {lines[int(change.split(':')[0]) - 1].strip()}", flush=True)
    print(json.dumps({"module": str(options.module), "part": options.part, "tried": tried, "survived": survivors}))


if __name__ == "__main__":
    main()
