"""Many prompts to many files: what is there already is left, and files are written while the next motions are made.

Files of a whole run are written by way of a folder of the run's own, beside them (`scratch`): whatever ends the program
leaves nothing among the user's files but whole ones, and the next run takes away what it left in that folder.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mclip import __version__
from mclip.files import cannot_write, new_folder
from mclip.motion import Motion, summarize
from mclip.runtime.engine import Engine
from mclip.runtime.prompts import number
from mclip.runtime.tasks import BLOCK, Prompt, generate

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

SCRATCH = ".mclip-generate"
Save = Callable[[Path, Motion], None]
# Writing waits for the disk more than for a processor.
_WRITERS = 4
# Prompts that are worth threads of their own for writing.
_FEW = 8
# Motions that wait to be written: a slow disk must not fill the memory.
_WAITING = 64


class Made(NamedTuple):
    """A file that holds a motion of a prompt; variation: which of them, from 0; reused: whether it was there before."""

    path: Path
    prompt: Prompt
    variation: int
    frames: int
    fps: float
    origin: dict[str, Any]
    reused: bool


class Settings(NamedTuple):
    """What all prompts have in common; see `mclip.runtime.tasks.generate`. anew: make what is there already, too."""

    fps: float | None = None
    truncate: bool = False
    variations: int = 1
    seed: int = 0
    anew: bool = False


def make(engine: Engine, planned: Iterable[tuple[Prompt, Path]], settings: Settings, save: Save) -> Iterator[Made]:
    """Write the motions of prompts to their files, and tell each once it is there, in their order.

    A file that this pack made of the same prompt with the same settings is not made again: files are written
    atomically, so an interrupted run goes on where it was. Raises as `generate` does for the first prompts that are at
    fault; those before them have been written.
    """
    jobs = iter(planned)
    first = list(islice(jobs, BLOCK))
    with nullcontext() if len(first) < _FEW else _writers() as writers:
        waiting: deque[tuple[Future[None] | None, Made]] = deque()
        for block in chain([first], iter(lambda: list(islice(jobs, BLOCK)), [])):
            for item in _block(engine, block, settings, save, writers):
                waiting.append(item)
                while len(waiting) > _WAITING:
                    yield _written(*waiting.popleft())
        while waiting:
            yield _written(*waiting.popleft())


@contextmanager
def scratch(folder: Path, save: Save) -> Iterator[Save]:
    """A block in which this is the only run that writes to a folder; yields what does as `save` does.

    Raises UsageError while another process is in such a block, and when the folder cannot be written.
    """
    from mclip.locks import empty, own_folder  # one prompt does without

    place = folder / SCRATCH
    busy = f"{folder}: another mclip generate is writing there"
    with ExitStack() as stack:
        try:
            stack.enter_context(own_folder(place, busy, "wait for it, or choose another folder with -o"))
        except OSError as error:
            raise cannot_write(folder, error) from None
        # What a killed run left; in the end, what killed workers did.
        empty(place)
        stack.callback(empty, place)
        yield partial(_save_by_way_of, place.absolute(), save)


def _save_by_way_of(place: Path, save: Save, path: Path, motion: Motion) -> None:
    # Under its own name: some formats hold it.
    made = Path(tempfile.mkdtemp(dir=place)) / path.name
    save(made, motion)
    try:
        with new_folder(path.parent):
            os.replace(made, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise cannot_write(path, error) from None
        save(path, motion)  # this folder is on another disk
        made.unlink()
    made.parent.rmdir()


def _writers() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # takes longer to load than a file to write

    return ThreadPoolExecutor(_WRITERS, "write")


def _written(future: Future[None] | None, made: Made) -> Made:
    if future is not None:
        future.result()
    return made


def _block(
    engine: Engine,
    block: list[tuple[Prompt, Path]],
    settings: Settings,
    save: Save,
    writers: ThreadPoolExecutor | None,
) -> Iterator[tuple[Future[None] | None, Made]]:
    files = [number(path, settings.variations) for _, path in block]
    kept = [
        None if settings.anew else _kept(engine, prompt, paths, settings)
        for (prompt, _), paths in zip(block, files, strict=True)
    ]
    made = generate(
        engine,
        [prompt for (prompt, _), there in zip(block, kept, strict=True) if there is None],
        fps=settings.fps,
        truncate=settings.truncate,
        variations=settings.variations,
        seed=settings.seed,
    )
    for (prompt, _), paths, there in zip(block, files, kept, strict=True):
        if there is not None:
            yield from ((None, item) for item in there)
            continue
        for variation, (path, item) in enumerate(zip(paths, made, strict=False)):
            motion = item.motion
            summary = Made(path, prompt, variation, len(motion), motion.fps, dict(motion.origin), False)
            if writers is None:
                save(path, motion)
            yield writers.submit(save, path, motion) if writers else None, summary


def _kept(engine: Engine, prompt: Prompt, paths: list[Path], settings: Settings) -> list[Made] | None:
    """The files of a prompt if all are there as they would be made."""
    result = []
    for variation, path in enumerate(paths):
        wanted: dict[str, Any] = {
            "version": __version__,
            "command": "generate",
            "prompt": prompt.text,
            "seconds": prompt.seconds,
            "pack_sha256": engine.pack.digest,
            "variation": variation + 1 if settings.variations > 1 else None,
            "seed": settings.seed if settings.variations > 1 else None,
        }
        if prompt.picture is not None or not path.is_file():
            return None  # a picture's name does not say what it shows
        summary = summarize(path)
        if (
            summary is None
            or summary.fps != (settings.fps or engine.manifest.fps)
            or any(summary.origin.get(key) != value for key, value in wanted.items())
        ):
            return None
        result.append(Made(path, prompt, variation, summary.frames, summary.fps, summary.origin, True))
    return result
