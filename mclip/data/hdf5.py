"""HDF5 files that nobody need trust: read with every promise checked first, written contiguous."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mclip.errors import DataError

# What HDF5 can keep in its tables, in bytes.
_SMALL = 65_536
# Bytes of an array that are looked at together.
_BLOCK = 16 << 20
# Bytes of strings that are decoded together, and of the longest of them.
_STRINGS = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """The file, for reading. Raises DataError where there is none, and for whatever damage shows while it is open."""
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "no such store"
        raise DataError(f"{path}: {what}", "make one with: mclip preprocess DIR")
    try:
        file = h5py.File(path, "r")
    except OSError:
        raise DataError(
            f"{path}: not a readable HDF5 file", "is the copy complete? mclip preprocess makes it again"
        ) from None
    try:
        with file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        # What h5py raises where the file's own tables are damaged.
        raise DataError(f"{path}: damaged ({error})", "make it again with: mclip preprocess DIR --force") from error


@contextmanager
def writing(path: Path, mode: str) -> Iterator[h5py.File]:
    """The file, to be written; mode: "w" or "r+". Raises OSError with the system's number where the disk fails."""
    try:
        with h5py.File(path, mode) as file:
            yield file
    except (OSError, RuntimeError) as error:
        # HDF5 has it in the middle of a long text, and h5py another class for each place.
        number = _ERRNO.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


_ERRNO = re.compile(r"\berrno = (\d+)")


class Reader:
    """Datasets and attributes of one open file, checked before memory is taken for them; all raise DataError."""

    def __init__(self, path: Path, file: h5py.File, *, mmap: bool = False) -> None:
        """With mmap, arrays asked for as `mapped` stay in the file."""
        self.path = path
        self._file, self._mmap = file, mmap

    def has(self, name: str) -> bool:
        """Whether there is a dataset or group of this name."""
        return self._member(name) is not None

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a dataset, which is not read."""
        shape: tuple[int, ...] = self._dataset(name).shape
        return shape

    def array(self, name: str, dtype: type, *shape: int | None, mapped: bool = False) -> NDArray[Any]:
        """A dataset of this type and shape; None stands for any length."""
        dataset = self._dataset(name)
        fits = len(dataset.shape) == len(shape) and all(
            want in (None, have) for want, have in zip(shape, dataset.shape, strict=True)
        )
        if dataset.dtype != np.dtype(dtype) or not fits:
            raise DataError(
                f"{self.path}: '{name}' is {dataset.dtype} {dataset.shape}, "
                f"expected {np.dtype(dtype)} ({', '.join('any' if n is None else str(n) for n in shape)})"
            )
        if mapped and self._mmap and dataset.size:
            result: NDArray[Any] = np.memmap(self.path, dataset.dtype, "r", dataset.id.get_offset(), dataset.shape)
        else:
            result = np.asarray(dataset[...])
        if result.dtype.kind == "f" and not mapped and not np.isfinite(result).all():
            raise DataError(f"{self.path}: '{name}' holds NaN or infinite values")
        return result

    def optional(self, name: str, dtype: type, *shape: int | None) -> NDArray[Any] | None:
        """A dataset of this type and shape, or None if there is none."""
        return self.array(name, dtype, *shape) if self.has(name) else None

    def strings(self, name: str, length: int | None) -> tuple[str, ...]:
        """A dataset of strings; None stands for any length, and for strings that say something.

        A file of a few bytes can hold a hole that reads as any number of empty ones.
        """
        dataset = self._dataset(name)
        if dataset.dtype.kind != "S" or len(dataset.shape) != 1 or length not in (None, *dataset.shape):
            raise DataError(f"{self.path}: '{name}' is {dataset.dtype} {dataset.shape}, not {length} strings")
        if dataset.dtype.itemsize > _STRINGS:
            raise DataError(f"{self.path}: '{name}' has strings of more than {_STRINGS >> 20} MiB")
        result, step = list[str](), _STRINGS // max(1, dataset.dtype.itemsize)
        for start in range(0, len(dataset), step):
            try:
                result += [value.decode() for value in dataset[start : start + step]]
            except UnicodeDecodeError:
                raise DataError(f"{self.path}: '{name}' is not UTF-8") from None
            blank = [row for row in range(start, len(result)) if length is None and not result[row].strip()]
            if blank:
                hint = "make it again with: mclip preprocess DIR"
                raise DataError(f"{self.path}: '{name}' is blank in row {blank[0]}", hint)
        return tuple(result)

    def tables(self, name: str, rows: int | None) -> dict[str, NDArray[np.float32]]:
        """The float32 matrices of a group, by name, left in the file with mmap; none if there is no group.

        rows: None stands for any number.
        """
        group = self._member(name)
        if group is None:
            return {}
        if not isinstance(group, h5py.Group):
            raise DataError(f"{self.path}: '{name}' is not a group")
        tables = {key: self.array(f"{name}/{key}", np.float32, rows, None, mapped=True) for key in group}
        for key, table in tables.items():
            if not all(np.isfinite(block).all() for block in blocks(table)):
                raise DataError(f"{self.path}: '{name}/{key}' holds NaN or infinite values")
        return tables

    def text(self, name: str) -> str:
        """A string attribute."""
        value = self._file.attrs.get(name)
        if isinstance(value, bytes):
            return value.decode()
        if not isinstance(value, str):
            raise DataError(f"{self.path}: the attribute '{name}' is missing or no string")
        return value

    def number(self, name: str) -> float:
        """A number attribute."""
        value = self._file.attrs.get(name)
        if not isinstance(value, (int, float, np.integer, np.floating)):
            raise DataError(f"{self.path}: the attribute '{name}' is missing or no number")
        return float(value)

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object attribute."""
        try:
            value = json.loads(self.text(name))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise DataError(f"{self.path}: the attribute '{name}' is no JSON object")
        return value

    def _member(self, name: str) -> h5py.Group | h5py.Dataset | None:
        """What `name` is; every link on the way must be a hard one."""
        at = self._file
        for part in name.split("/"):
            link = at.get(part, getlink=True) if isinstance(at, h5py.Group) else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise DataError(f"{self.path}: '{name}' is a link to elsewhere", "a store holds its own data")
            at = at[part]
        return at

    def _dataset(self, name: str) -> h5py.Dataset:
        dataset = self._member(name)
        if not isinstance(dataset, h5py.Dataset):
            raise DataError(f"{self.path}: has no '{name}'", "make it again with: mclip preprocess DIR")
        plain = dataset.chunks is None and not dataset.is_virtual and not dataset.external
        # A shape may promise more than the file holds: HDF5 would hand out zeros, as many as memory allows.
        if not plain or dataset.shape is None or dataset.id.get_storage_size() != dataset.size * dataset.dtype.itemsize:
            raise DataError(f"{self.path}: '{name}' is not stored whole and contiguous in the file")
        # Small ones lie in the file's tables, and have no place of their own.
        start = dataset.id.get_offset()
        if dataset.nbytes > (_SMALL if start is None else self.path.stat().st_size - start):
            raise DataError(f"{self.path}: '{name}' goes on beyond the end of the file", "is the copy complete?")
        return dataset


def blocks(rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The rows (N, W) of an array that may be larger than the memory, some at a time."""
    count = max(1, _BLOCK // max(1, rows.shape[1] * rows.itemsize))
    return (rows[start : start + count] for start in range(0, len(rows), count))


def create(file: h5py.File, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
    """A contiguous dataset, allocated at once so that a full disk shows now."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    # Every value is written by us; filling first would write everything twice.
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    tid = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    identifier = h5py.h5d.create(
        file.id, name.encode(), tid, h5py.h5s.create_simple(shape), dcpl=properties, lcpl=links
    )
    return h5py.Dataset(identifier)
