"""Whether the tests notice when the code is wrong: python -m benchmarks.mutation MODULE TEST... [--part K/N]

Changes one operator, comparison or number of a module (mclip/geometry.py, say) at a time, runs its tests on it,
and prints the changes after which all of them still pass: each needs a better test, or is one that no test could tell
from the code as it is. What is raised is left as it is, as its numbers are wording, and so are the decorators of
classes. The last line is one JSON object. --part tries every Nth change only, from the Kth on.

Every change runs in a process of its own that is forked after all that the tests import from elsewhere was loaded.
Tests that run the changed function come first, quick ones before slow ones. On Linux and macOS.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import io
import json
import math
import os
import pickle
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]
# Times what the tests take with an unchanged module: a change may make a loop endless.
PATIENCE = 3
# Bytes: a change may undo a limit.
MEMORY = 6_000_000_000
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
        if isinstance(node.op, ast.Not | ast.USub) and self._now():
            self.made = f"{node.lineno}: without {type(node.op).__name__}"
            return node.operand
        if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            return self.visit_Constant(ast.copy_location(ast.Constant(ast.literal_eval(node)), node))
        return self.generic_visit(node)

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

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(each) for each in node.body]
        return node

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
        file = Path(self.code.co_filename)
        found = ModuleSpec(name, self, origin=str(file), is_package=file.name == "__init__.py")
        found.has_location = True
        if found.submodule_search_locations is not None:
            found.submodule_search_locations.append(str(file.parent))
        return found

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code, module.__dict__)


class _Watch:
    """A plugin of pytest: which tests run which functions of a file, named by their first lines, and for how long."""

    def __init__(self, path: str) -> None:
        self.path, self.test = path, ""
        self.runs: defaultdict[str, set[int]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    def _called(self, frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_filename == self.path:
            self.runs[self.test].add(frame.f_code.co_firstlineno)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watch one test."""
        self.test, start = item.nodeid, time.perf_counter()
        sys.settrace(self._called)
        threading.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = time.perf_counter() - start


class _Order:
    """A plugin of pytest: tests that run one of these lines as a function's first one come first."""

    def __init__(self, watch: _Watch, lines: range) -> None:
        self._watch, self._lines = watch, lines

    def _key(self, item: pytest.Item) -> tuple[bool, float]:
        runs = self._watch.runs.get(item.nodeid, ())
        return not any(line in self._lines for line in runs), self._watch.seconds.get(item.nodeid, 0.0)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the tests."""
        items.sort(key=self._key)


def _function_around(tree: ast.Module, line: int) -> range:
    """The lines of the function or method of a module that has this line; none for what runs on import."""
    for node in ast.walk(tree):  # the outermost comes first
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= (node.end_lineno or line):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])  # Python's idea of it
            return range(first, (node.end_lineno or line) + 1)
    return range(0)


def _run(name: str, code: CodeType, tests: list[str], plugin: object) -> int:
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
        return int(pytest.main([*quiet, *tests], plugins=[plugin]))


def _forked(work: Callable[[], int]) -> int:
    """What `work` returns in a process of its own, or what ended that."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        result = 1
        try:
            os.setsid()
            result = work()
        finally:
            os._exit(result)
    _, status = os.waitpid(child, 0)
    return status


def learn(name: str, code: CodeType, tests: list[str]) -> tuple[_Watch, list[str], float]:
    """Who runs what of the unchanged module, what else the tests load, and the seconds of processor they take."""
    watch = _Watch(code.co_filename)
    with tempfile.TemporaryFile() as file:

        def work() -> int:
            result = _run(name, code, tests, watch)
            pickle.dump((watch.runs, watch.seconds, sorted(sys.modules), time.process_time()), file)
            file.flush()
            return result

        if _forked(work):
            sys.exit("the tests fail on the module as it is")
        file.seek(0)
        watch.runs, watch.seconds, modules, seconds = pickle.load(file)
    return watch, [each for each in modules if each.partition(".")[0] not in ("mclip", "tests", "__main__")], seconds


def passes(name: str, code: CodeType, tests: list[str], order: _Order, seconds: float) -> bool:
    """Whether the tests pass on a module's code; not if they take so many seconds of processor, or much memory."""

    def work() -> int:
        limit = math.ceil(seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        signal.alarm(10 * limit)  # a change may also make it wait for ever
        return _run(name, code, tests, order)

    return _forked(work) == 0


def main() -> None:
    parser = argparse.ArgumentParser(description="Change a module in many ways; say which changes its tests miss.")
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args()
    os.chdir(ROOT)
    name = ".".join(options.module.with_suffix("").parts).removesuffix(".__init__")
    source, path = options.module.read_text(encoding="utf-8"), str(options.module.resolve())
    watch, modules, seconds = learn(name, compile(source, path, "exec"), options.tests)
    for module in modules:
        with contextlib.suppress(Exception):  # some are made by others, under names that cannot be imported
            importlib.import_module(module)
    first, step = map(int, options.part.split("/"))
    tried, survivors = 0, []
    tree, lines = ast.parse(source), source.splitlines()
    for change, code in list(mutants(source, path))[first::step]:
        tried += 1
        line = int(change.split(":")[0])
        if passes(name, code, options.tests, _Order(watch, _function_around(tree, line)), 5 + PATIENCE * seconds):
            survivors.append(change)
            print(f"{options.module}:{change}    {lines[line - 1].strip()}", flush=True)
    print(json.dumps({"module": str(options.module), "part": options.part, "tried": tried, "survived": survivors}))


if __name__ == "__main__":
    main()
