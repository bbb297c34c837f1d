"""Which action a motion shows, among labels nobody trained for.

A window's scores are the softmax, over the label set, of the cosines between its latent and the labels' vectors
(mclip.runtime.labels), divided by the temperature the pack was trained with. A motion's score for a label is the mean
over the half of its windows in which the label scores highest, and the scores are scaled to a sum of one: a recording
that only waves for a while is about waving, and one odd window decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip.console import progress
from mclip.errors import DataError, MotionError
from mclip.formats.folder import gather, read_files
from mclip.motion import Motion
from mclip.pack import Manifest
from mclip.runtime.encoded import Encoded
from mclip.runtime.engine import Engine
from mclip.runtime.labels import locate_labels
from mclip.runtime.prior import unit

UNKNOWN = "unknown"
# Of packs that were not trained to tell captions apart: the temperature most contrastive models begin with.
TEMPERATURE = 0.07
# Windows begin every quarter of a window.
_OVERLAP = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a motion, seconds, its label, and the label's mean score in it."""

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A motion's labels with their scores, best first, and its parts in time.

    answer: the best label, or UNKNOWN where its score is below the threshold
    """

    labels: tuple[tuple[str, float], ...]
    answer: str
    timeline: tuple[Segment, ...]


class Classifier:
    """Labels, ready to be compared with motions.

    threshold: what scores lower is UNKNOWN.
    """

    def __init__(self, engine: Engine, labels: Sequence[str], threshold: float = 0.0) -> None:
        """Raises UsageError for a label the pack's text encoder cannot read."""
        self._engine, self.labels, self.threshold = engine, tuple(labels), threshold
        self._vectors = locate_labels(engine, labels)  # (M, D)
        self._temperature = temperature(engine.manifest)

    @property
    def manifest(self) -> Manifest:
        """That of the pack."""
        return self._engine.manifest

    def classify(self, motion: Motion) -> Answer:
        """What a motion shows. Raises MotionError if it is too short for the pack."""
        check_length(self.manifest, motion)
        hop = max(1, self.manifest.frames.default // _OVERLAP)
        return self._answer(self._engine.encode_motions([motion], hop)[0])

    def _answer(self, encoded: Encoded) -> Answer:
        windows = window_scores(encoded.latents, self._vectors, self._temperature)
        scores = pool(windows)
        order = np.argsort(-scores, kind="stable")
        return Answer(
            labels=tuple((self.labels[row], float(scores[row])) for row in order.tolist()),
            answer=self._name(int(order[0]), float(scores[order[0]])),
            timeline=tuple(self._timeline(encoded, windows)),
        )

    def _timeline(self, encoded: Encoded, windows: NDArray[np.float64]) -> list[Segment]:
        """Equal neighbours merged. Between two window borders the windows that cover the stretch decide together."""
        borders = np.unique(np.concatenate([encoded.start, encoded.stop]))
        segments: list[Segment] = []
        for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            scores = windows[(encoded.start <= start) & (encoded.stop >= stop)].mean(axis=0)
            best = int(scores.argmax())
            label, score = self._name(best, float(scores[best])), float(scores[best])
            if segments and segments[-1].label == label:
                last = segments.pop()
                share = (stop - start) / encoded.fps / (stop / encoded.fps - last.start)
                start, score = last.start * encoded.fps, last.score + share * (score - last.score)
            segments.append(Segment(start / encoded.fps, stop / encoded.fps, label, score))
        return segments

    def _name(self, label: int, score: float) -> str:
        return self.labels[label] if score >= self.threshold else UNKNOWN


@dataclass(frozen=True, slots=True)
class Clip:
    """A motion's file, "file#animation" where it holds several, and what the motion shows."""

    path: str
    answer: Answer


def classify_files(
    classifier: Classifier,
    paths: Sequence[Path],
    skipped: list[tuple[str, str]],
    workers: int | None = None,
    dask: str | None = None,
) -> Iterator[Clip]:
    """An answer for each motion in files and folders, in their order, as they are found.

    skipped: takes (path, reason) of what cannot be used; sorted when all is read
    Raises DataError when there is nothing to read, or nothing that can be.
    """
    files, problems = gather(paths)
    skipped += problems
    early: dict[Path, list[Clip]] = {}  # read before files that come before them
    order = iter(files)
    following, found = next(order, None), False
    with progress("classify", len(files)) as bar:
        for file in read_files(files, classifier.manifest.fps, workers, dask):
            early[file.path] = []
            if file.reason:
                skipped.append((str(file.path), file.reason))
            for name, motion in file.motions:
                path = f"{file.path}#{name}" if len(file.motions) > 1 else str(file.path)
                try:
                    early[file.path].append(Clip(path, classifier.classify(motion)))
                except MotionError as error:
                    skipped.append((path, error.message))
            bar.advance(note=file.path.name)
            while following in early:
                clips = early.pop(following)
                found = found or bool(clips)
                yield from clips
                following = next(order, None)
    if not found:
        path, reason = skipped[0]
        raise DataError(f"{path}: {reason}" + (f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""))
    skipped.sort()


def temperature(manifest: Manifest) -> float:
    """What cosines are divided by: the temperature of training, or TEMPERATURE if there was none."""
    loss = manifest.recipe.get("loss")
    if not isinstance(loss, dict) or not loss.get("contrast"):
        return TEMPERATURE
    value = loss.get("temperature")
    return float(value) if isinstance(value, (int, float)) and 1e-3 <= value <= 10 else TEMPERATURE


def check_length(manifest: Manifest, motion: Motion) -> None:
    """Raise MotionError for a motion with fewer frames than the pack was trained on."""
    frames = len(motion) * manifest.fps / motion.fps
    if frames + 1e-6 < manifest.frames.min - 1:  # resampling may lose a frame
        least = manifest.frames.min / manifest.fps
        raise MotionError(f"lasts {motion.seconds:.2g} s, the pack {manifest.name} needs {least:.2g} s")


def window_scores(
    latents: NDArray[np.float32], vectors: NDArray[np.float32], temperature: float
) -> NDArray[np.float64]:
    """Scores (W, M) of windows with latents (W, D) for labels with vectors (M, D); each window's add up to one."""
    logits = (unit(latents) @ vectors.T).astype(np.float64) / temperature
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
    return result


def pool(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (M,) of a motion from those of its windows (W, M), see the module docstring."""
    half = (len(windows) + 1) // 2
    mean = np.sort(windows, axis=0)[-half:].mean(axis=0)
    result: NDArray[np.float64] = mean / mean.sum()
    return result
