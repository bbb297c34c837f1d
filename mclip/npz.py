"""Reading .npz archives that nobody need trust: what an array says of itself is checked before memory is taken for it.

np.load takes as much memory as an array's header asks for, before it sees that the file holds less.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

# The table of contents of a hundred thousand arrays; a file of motion has a dozen.
MAX_DIRECTORY_BYTES = 8_000_000
# Recordings shrink to a half, with still hands to a tenth. Larger arrays that shrink more were made to fill memory.
MAX_RATIO = 200
FREE_BYTES = 16_000_000
# np.save writes 128 bytes, and a few hundred for records.
MAX_HEADER_BYTES = 10_000
# The record at the end of every archive that says where its contents are listed, and the longest comment after it.
_END, _END_BYTES, _MAX_COMMENT = b"PK\5\6", 22, 65_535


def read_npz(source: Path | IO[bytes], limits: Mapping[str, int], total: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays named in `limits` that the archive has, each of at most so many bytes, and all of `total`.

    Raises OSError when the file cannot be opened, ValueError for an array that is too large, holds objects, or says it
    is larger than it is, and other exceptions of zipfile and numpy for damaged archives.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_npz(file, limits, total)
    check_directory(source)
    with zipfile.ZipFile(source) as archive:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in entries:
                raise ValueError(f"it holds {name} twice")
            if name in limits:
                entries[name] = entry
        unpacked = sum(entry.file_size for entry in entries.values())
        if total is not None and unpacked > total:
            raise ValueError(f"it unpacks to {_bytes(unpacked)}, more than {_bytes(total)}")
        return {name: _read(archive, entry, limits[name]) for name, entry in entries.items()}


def check_directory(file: IO[bytes]) -> None:
    """Raise ValueError for what does not begin as an archive, and for one that lists absurdly many files.

    zipfile makes an object of half a kilobyte of each of the fifty bytes or more that list a file.
    """
    file.seek(0)
    if file.read(2) != b"PK":  # zipfile also takes archives that something else stands before
        raise ValueError("it is no .npz file")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_BYTES - _MAX_COMMENT))
    tail = file.read()
    at = tail.rfind(_END)
    if at >= 0 and int.from_bytes(tail[at + 12 : at + 16], "little") > MAX_DIRECTORY_BYTES:
        raise ValueError("it lists more files than any archive of arrays")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> NDArray[Any]:
    size = entry.file_size
    if size > limit + MAX_HEADER_BYTES:
        raise ValueError(f"{entry.filename} unpacks to {_bytes(size)}, more than {_bytes(limit)}")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{entry.filename} is compressed in a way that numpy does not use")
    if size > FREE_BYTES and size > MAX_RATIO * entry.compress_size:
        raise ValueError(f"{entry.filename} unpacks to {_bytes(size)} from {_bytes(entry.compress_size)}")
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=MAX_HEADER_BYTES)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream, max_header_size=MAX_HEADER_BYTES)
        else:
            raise ValueError(f"{entry.filename} has version {version[0]}.{version[1]} of numpy's format")
        if dtype.hasobject:
            raise ValueError(f"{entry.filename} holds objects, which only running the file could read")
        # Values without any bytes are none the less values.
        if any(length < 0 for length in shape) or math.prod(shape) * max(dtype.itemsize, 1) > size - stream.tell():
            raise ValueError(f"{entry.filename} says it has the shape {shape}, but does not hold so much")
        stream.seek(0)
        result: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        return result


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
