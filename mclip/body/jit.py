"""Compilation with numba, cached on disk where a cache can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function`, compiled by numba at the first call; numba's types are no types to mypy, so ours are kept."""
    try:
        result: F = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        # Neither the package's folder nor the user's cache can be written: compile in each process.
        result = numba.njit(nogil=True, error_model="numpy")(function)
    return result
