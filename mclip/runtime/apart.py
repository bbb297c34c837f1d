"""Many prompts to many files in other processes, of this machine or of a Dask cluster.

The prompts are shared out in the blocks that one process makes them in, so the files are the same to the last bit. What
workers get is a block of prompts, what they give back a few words about each file: the files are written where they
are made, on storage that all machines share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mclip.errors import UsageError
from mclip.formats.pool import run_all
from mclip.pack import Pack
from mclip.runtime.bulk import Made, Save, Settings, make
from mclip.runtime.engine import Engine
from mclip.runtime.prompts import number
from mclip.runtime.tasks import BLOCK, Prompt


class _Share(NamedTuple):
    """A block of prompts, and all that a worker needs to make their motions; home: what paths are relative to."""

    place: int
    block: list[tuple[Prompt, Path]]
    home: Path
    pack: str
    digest: str
    device: str
    settings: Settings
    save: Save


def make_apart(
    pack: Pack,
    device: str,
    planned: Iterable[tuple[Prompt, Path]],
    settings: Settings,
    save: Save,
    *,
    workers: int,
    dask: str | None = None,
) -> Iterator[Made]:
    """What `mclip.runtime.bulk.make` does, by so many processes or on the Dask cluster at an address.

    Each process opens the pack once. What one that dies had in hand goes to another, but for files that were written.
    save: can be sent to other processes. Raises as `make`, and UsageError for prompts that end every process.
    """
    jobs, home = iter(planned), Path.cwd()
    blocks = iter(lambda: list(islice(jobs, BLOCK)), [])
    shares = (
        _Share(place, block, home, pack.reference, pack.digest, device, settings, save)
        for place, block in enumerate(blocks)
    )
    early: dict[int, list[Made]] = {}  # made before blocks that come before them
    following = 0
    for share, made in run_all(_make, shares, workers, dask):
        if made is None:
            raise UsageError(
                f"{share.block[0][1]} and the motions after it end the processes that make them",
                "is there memory enough? what was finished is kept",
            )
        early[share.place] = made
        while following in early:
            yield from early.pop(following)
            following += 1


def _make(share: _Share) -> list[Made]:
    made = make(
        _engine(share.pack, share.digest, share.device),
        [(prompt, share.home / path) for prompt, path in share.block],
        share.settings,
        share.save,
    )
    paths = (file for _, path in share.block for file in number(path, share.settings.variations))
    return [each._replace(path=path) for each, path in zip(made, paths, strict=True)]


@cache
def _engine(pack: str, digest: str, device: str) -> Engine:
    return Engine.open(pack, device, sha256=digest)
