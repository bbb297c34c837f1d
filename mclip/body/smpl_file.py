"""The arrays of a body file, read without running anything in it.

SMPL is distributed as Python pickles that name numpy, scipy.sparse and chumpy. Unpickling is running a program, so the
unpickler here knows only these names, and even they build inert records: no object of numpy, scipy or chumpy is made
while the file is being read. The records are turned into arrays afterwards, each checked against the bytes it has.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import AssetError, shown
from mclip.npz import read_npz as read_npz_file

# SMPL with 300 betas is 250 MB as a pickle of float64.
MAX_FILE_BYTES = 512 * 2**20
# The objects of an SMPL pickle are numbered one after another, up to a few thousand.
MAX_MEMO = 1_000_000
# J_regressor, the only sparse matrix, of a body of MAX_VERTICES.
MAX_SPARSE_VALUES = 24 * 200_000
WANTED = frozenset(
    "v_template f weights shapedirs posedirs J_regressor J_regressor_idx J_regressor_val kintree_table".split()
)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of WANTED in an .npz. Raises AssetError (without the path) when it is damaged or too large."""
    try:
        return read_npz_file(path, dict.fromkeys(WANTED, MAX_FILE_BYTES), MAX_FILE_BYTES)
    except Exception as error:
        # numpy and zipfile raise a dozen kinds for damaged archives.
        raise AssetError(f"not a readable .npz ({error})") from None


def read_pkl(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of WANTED in an SMPL .pkl. Raises AssetError (without the path) for anything that is not SMPL."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise AssetError(f"larger than {MAX_FILE_BYTES // 2**20} MB")
    try:
        with path.open("rb") as file:
            _check_memo(file)
            content = _SmplUnpickler(file).load()
        if not isinstance(content, dict):
            raise AssetError("not an SMPL body: the pickle holds no dictionary")
        return {str(name): _array(value) for name, value in content.items() if name in WANTED}
    except AssetError:
        raise
    except Exception as error:
        # A damaged pickle can raise nearly anything.
        raise AssetError(f"not a readable .pkl ({error or type(error).__name__})") from None


def _check_memo(file: IO[bytes]) -> None:
    """Refuse places that Python would make room up to before anything is put there."""
    for opcode, argument, _ in pickletools.genops(file):
        if "PUT" in opcode.name and isinstance(argument, int) and not 0 <= argument <= MAX_MEMO:
            raise pickle.UnpicklingError(f"it numbers an object {shown(argument)}")
    file.seek(0)


class _Record:
    """What a pickled object was built from: its constructor's arguments and its state. It does nothing."""

    # On the class, because unpickling may leave __init__ out.
    args: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype(_Record):
    """numpy.dtype(name, align, copy), with state (version, byte order, ...)."""


class _Array(_Record):
    """numpy.ndarray by _reconstruct, with state (version, shape, dtype, fortran order, bytes)."""


class _Buffer(_Record):
    """numpy.ndarray by _frombuffer(bytes, dtype, shape, order), as pickle protocol 5 has it."""


class _Sparse(_Record):
    """A scipy.sparse csc, csr or coo matrix, with its attributes as state."""


class _Csc(_Sparse):
    pass


class _Csr(_Sparse):
    pass


class _Chumpy(_Record):
    """A chumpy array: Ch holds it as x; Select holds a chumpy array a and what to take of it."""


def _reconstruct(kind: Any, *_: Any) -> _Record:
    """numpy's and copyreg's helper that makes an object before its state is set."""
    if isinstance(kind, type) and issubclass(kind, _Record):
        return kind()
    raise pickle.UnpicklingError("it builds something that is no array")


def _encode(text: str, encoding: str) -> str:
    """Protocols below 3 write bytes as latin-1 text, which may stay text: a copy each time could fill the memory."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("it asks for an encoding that is not latin1")
    return text


class _Call:
    """A function that a pickle may call. Of a plain one it could change the defaults."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("it changes what it should call")


_KNOWN: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    "numpy.core.multiarray._reconstruct": _Call(_reconstruct),
    "numpy.core.numeric._frombuffer": _Buffer,
    "scipy.sparse.csc_matrix": _Csc,
    "scipy.sparse.csr_matrix": _Csr,
    "chumpy.ch.Ch": _Chumpy,
    "chumpy.reordering.Select": _Chumpy,
    "copyreg._reconstructor": _Call(_reconstruct),
    "copy_reg._reconstructor": _Call(_reconstruct),
    "builtins.object": object,
    "__builtin__.object": object,
    "_codecs.encode": _Call(_encode),
}


class _SmplUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        # Python 2 wrote these files: its byte strings are latin-1 here.
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        # numpy and scipy have moved these names over the years: numpy._core, scipy.sparse.csc, scipy.sparse._csc.
        place = re.sub(r"^numpy\._core\b", "numpy.core", module)
        place = re.sub(r"^scipy\.sparse\._?cs[cr]$", "scipy.sparse", place)
        known = _KNOWN.get(f"{place}.{name}")
        if known is None:
            raise AssetError(f"names {module}.{name}, which no SMPL body needs; it was not loaded")
        return known


def _array(value: Any) -> NDArray[Any]:
    """The array a record stands for."""
    if isinstance(value, _Chumpy):
        return _chumpy(value.state)
    if isinstance(value, _Sparse):
        return _sparse(value)
    if isinstance(value, _Array):
        _, shape, dtype, fortran, data = value.state
        return _from_bytes(data, dtype, shape, "F" if fortran else "C")
    if isinstance(value, _Buffer):
        data, dtype, shape, order = value.args
        return _from_bytes(data, dtype, shape, order)
    raise AssetError(f"not an SMPL body: a {type(value).__name__} where an array should be")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(dtype, _Dtype) or not dtype.args or not re.fullmatch(r"[biuf][1248]", str(dtype.args[0])):
        raise AssetError("not an SMPL body: an array of something that is no number")
    byte_order = str(dtype.state[1]) if dtype.state else "<"
    kind = np.dtype(str(dtype.args[0])).newbyteorder(">" if byte_order == ">" else "<")
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    shape = tuple(int(length) for length in shape)
    if any(length < 0 for length in shape) or math.prod(shape) * kind.itemsize != len(raw):
        raise AssetError("damaged: an array has another size than its bytes")
    return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


def _sparse(record: _Sparse) -> NDArray[Any]:
    """A csc or csr matrix (rows, columns) as a dense array."""
    state = record.state
    rows, columns = (int(length) for length in state["_shape"])
    data, indices, starts = (_array(state[name]) for name in ("data", "indices", "indptr"))
    across, along = (columns, rows) if isinstance(record, _Csc) else (rows, columns)
    if min(rows, columns) < 0 or rows * columns > MAX_SPARSE_VALUES or starts.shape != (across + 1,):
        raise AssetError("damaged: a sparse matrix does not fit its shape")
    lengths = np.asarray(np.diff(starts.astype(np.int64)), np.int64)
    if starts[0] != 0 or (lengths < 0).any() or not starts[-1] == data.size == indices.size:
        raise AssetError("damaged: a sparse matrix does not fit its shape")
    dense = np.zeros((across, along))
    dense[np.repeat(np.arange(across), lengths), indices] = data
    return dense.T if isinstance(record, _Csc) else dense


def _chumpy(state: Any) -> NDArray[Any]:
    if "x" in state:
        return _array(state["x"])
    selected = _array(state["a"]).reshape(-1)[_array(state["idxs"]).astype(np.int64).reshape(-1)]
    shape = state["preferred_shape"]
    shape = _array(shape) if isinstance(shape, _Record) else shape
    return selected.reshape(tuple(int(length) for length in shape))
