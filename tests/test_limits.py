"""What running a graph may take: so much memory and so much time, whatever a few hundred bytes ask for."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from onnx import helper, numpy_helper

from mclip.errors import PackError
from mclip.runtime.session import Session
from tests.test_bad_files import decoder


def squares(side: int, count: int) -> bytes:
    """A few hundred bytes that ask for `count` products of (side, side) matrices made of the input."""
    tensors = {"repeats": [1, side // 24], "square": [side, side]}
    weights = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in tensors.items()]
    nodes = [helper.make_node("Tile", ["latent", "repeats"], ["row"])]
    nodes += [helper.make_node("Expand", ["row", "square"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(count)]
    nodes += [helper.make_node("ReduceMax", [f"m{count}"], ["features"])]
    content: bytes = decoder(*nodes, initializer=weights).SerializeToString()
    return content


@pytest.mark.parametrize("optimise", [True, False])
def test_a_graph_gets_so_much_memory_and_no_more(optimise: bool) -> None:
    inputs = np.zeros((1, 24), np.float32), np.ones((1, 5), bool)
    assert Session(squares(2400, 1), "g.onnx", "cpu", optimise=optimise).run(*inputs) == 0
    with pytest.raises(PackError, match="cannot run it"):
        Session(squares(24_000, 1), "g.onnx", "cpu", optimise=optimise).run(*inputs)


def test_a_graph_gets_so_much_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mclip.runtime.session.SECONDS", 1.0)
    session = Session(squares(2400, 2000), "g.onnx", "cpu")
    start = time.monotonic()
    with pytest.raises(PackError, match="takes longer than 1 s"):
        session.run(np.zeros((1, 24), np.float32), np.ones((1, 5), bool))
    assert time.monotonic() - start < 8


def test_runs_that_end_in_time_go_on_beside_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = np.zeros((1, 24), np.float32), np.ones((1, 5), bool)
    quick = Session(squares(24, 1), "g.onnx", "cpu")
    monkeypatch.setattr("mclip.runtime.session.SECONDS", 0.8)
    slow = Session(squares(2400, 2000), "g.onnx", "cpu")
    failed: list[PackError] = []

    def fail() -> None:
        try:
            slow.run(*inputs)
        except PackError as error:
            failed.append(error)

    thread = threading.Thread(target=fail)
    thread.start()
    while thread.is_alive():
        assert quick.run(*inputs) == 0
    assert len(failed) == 1
