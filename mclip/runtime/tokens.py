"""The token table: the rows a text tower begins with, kept beside its graph.

A text has a few tokens of tens of thousands. Memory-mapped, the rows of the others are neither read into memory nor
copied with the graph. token_embeddings.npy is an array (V,) of records, one for each token id:

    scale   float32       one number each
    values  (W,)          float32, float16 or int8, times scale
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import PackError
from mclip.pack import TOKEN_TABLE, Pack


class TokenTable:
    """The rows of a token table (module docstring)."""

    def __init__(self, records: NDArray[Any]) -> None:
        self._records = records

    def __getitem__(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows (..., W) of token ids (...). Raises PackError for an id that has none."""
        for row in (int(ids.min()), int(ids.max())) if ids.size else ():
            if not 0 <= row < len(self._records):
                raise PackError(f"the token table has no row {row}", "re-run mclip export")
        records = self._records[ids]
        rows: NDArray[np.float32] = records["values"] * records["scale"][..., None]
        return rows


def save_table(path: Path, values: NDArray[np.generic], scale: NDArray[np.float32]) -> None:
    """Write token_embeddings.npy: values (V, W) times scale (V,)."""
    records = np.empty(len(values), [("scale", "<f4"), ("values", values.dtype, values.shape[1:])])
    records["scale"], records["values"] = scale, values
    np.save(path, records)


def open_table(pack: Pack) -> TokenTable:
    """The token table of a pack that lists one. Raises PackError if it is none."""
    content = pack.map(TOKEN_TABLE)
    try:
        if np.lib.format.read_magic(content) != (1, 0):
            raise ValueError("it is of a newer format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(content)
        fields: Any = dtype.fields or {}
        if len(shape) != 1 or shape[0] < 0 or set(fields) != {"scale", "values"}:
            raise ValueError(f"it is {dtype} {shape}")
        values = fields["values"][0]
        if fields["scale"][0] != np.float32 or values.base not in (np.float32, np.float16, np.int8):
            raise ValueError(f"it is {dtype}")
        if len(values.shape) != 1 or values.shape[0] < 1:
            raise ValueError(f"its rows have the shape {values.shape}")
        records: NDArray[Any] = np.frombuffer(content, dtype, shape[0], content.tell())
    except Exception as error:
        # numpy raises several kinds for damaged files.
        raise PackError(f"{pack.path / TOKEN_TABLE}: is no token table ({error})", "re-run mclip export") from None
    return TokenTable(records)
