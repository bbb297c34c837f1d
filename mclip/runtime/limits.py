"""What running a graph may take: memory for what lies between its inputs and outputs, and time.

A graph of a stranger's pack can ask for any amount of both with a few bytes: a range to a billion, a product of such.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import onnxruntime

# Weights are not counted. Eight pictures of CLIP's largest model take a quarter of it, everything else less.
MAX_BYTES = 3 << 28
# Of a run, and one more for so many bytes of the graph. A run has 8 rows at most: milliseconds, with the largest towers
# some seconds.
SECONDS, BYTES_PER_SECOND = 5.0, 20_000_000
_TICK_S, _FATAL_ONLY = 0.5, 4


def limit_memory(options: onnxruntime.SessionOptions) -> None:
    """Make a session on the CPU take memory for its values from a place that is MAX_BYTES large, for all sessions."""
    _register()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")


@functools.cache
def _register() -> None:
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    # A program around us may have made its own.
    with suppress(Exception):
        onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(MAX_BYTES, -1, -1, -1))


class _Watch:
    """Ends runs that take too long, from one thread for all.

    onnxruntime looks after each operator whether it is to end; Python's signals, Ctrl-C too, wait until it has.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ends: dict[int, tuple[float, onnxruntime.RunOptions]] = {}
        self._looks, self._idle = False, False

    @contextmanager
    def over(self, seconds: float) -> Iterator[onnxruntime.RunOptions]:
        """Options for a run that is ended after so many seconds."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL_ONLY  # what fails is said by whoever runs it
        with self._changed:
            self._ends[id(options)] = time.monotonic() + seconds, options
            if not self._looks:
                self._looks = True
                threading.Thread(target=self._look, daemon=True).start()
            elif self._idle:
                self._changed.notify()
        try:
            yield options
        finally:
            with self._changed:
                del self._ends[id(options)]

    def _look(self) -> None:
        with self._changed:
            while True:
                self._idle = not self._ends
                self._changed.wait(None if self._idle else _TICK_S)
                now = time.monotonic()
                for end, options in self._ends.values():
                    options.terminate = end < now


watch = _Watch()
if hasattr(os, "register_at_fork"):
    # A fork has no threads but its own.
    os.register_at_fork(after_in_child=watch.__init__)  # type: ignore[misc]
