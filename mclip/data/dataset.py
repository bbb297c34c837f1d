"""Windows of motions with their captions, drawn batch by batch.

A batch is a pure function of the recipe's seed and the step, so a resumed run sees what an uninterrupted one would
have, and there is no loader state to save. Gathering is vectorised over the batch; the store lies in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mclip.data.gathering import gather
from mclip.data.labels import swap_left_right
from mclip.data.store import MotionStore
from mclip.errors import DataError
from mclip.names import STYLE_SEPARATOR
from mclip.recipe import DataConfig
from mclip.runtime.representation import representation
from mclip.skeleton.smpl import forward_kinematics

# The exemplar of a label is chosen among this many windows; medoids cost their square.
_EXEMPLAR_CANDIDATES = 32


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one motion with one label and its captions.

    start, stop: frames within the store; texts: rows of the store's texts; mirrored: those of the mirrored motion.
    """

    start: int
    stop: int
    label: int
    texts: NDArray[np.int32]
    mirrored: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one training step needs, as numpy arrays.

    features (B, T, 25, 6) float32, mask (B, T) bool, text (B, W) unit embeddings, label (B,) int64.
    image (B, W) unit embeddings of a picture of each window, where has_image (B,) is true. Without captions or pictures
    to embed W is zero.
    The first E rows are also used to learn decoding from text. exemplar (E, T, 25, 6) and exemplar_mask (E, T) are the
    exemplars of their labels; other_text (E, W), other (E, T, 25, 6) and other_mask (E, T) an embedding and the
    exemplar of another style of the same action; has_other (E,) is false where the action has one style only.
    """

    features: NDArray[np.float32]
    mask: NDArray[np.bool_]
    text: NDArray[np.float32]
    label: NDArray[np.int64]
    image: NDArray[np.float32]
    has_image: NDArray[np.bool_]
    exemplar: NDArray[np.float32]
    exemplar_mask: NDArray[np.bool_]
    other_text: NDArray[np.float32]
    other: NDArray[np.float32]
    other_mask: NDArray[np.bool_]
    has_other: NDArray[np.bool_]

    def share(self, part: int, parts: int) -> Batch:
        """Every `parts`-th row from row `part` on, so that all shares have rows with exemplars."""
        return Batch(**{field.name: getattr(self, field.name)[part::parts] for field in fields(self)})


def check_sources(store: MotionStore, exclude: tuple[str, ...]) -> None:
    """Raise DataError when `exclude` names a source the store does not have."""
    unknown = sorted(set(exclude) - set(store.source))
    if unknown:
        raise DataError(
            f"data.exclude names {', '.join(unknown)}, which the store does not have",
            f"its sources are {', '.join(sorted(set(store.source)))}",
        )


def spans_of(store: MotionStore, split: str, exclude: tuple[str, ...] = (), min_frames: int = 1) -> list[Span]:
    """All labelled spans of a split with at least `min_frames` frames, in the store's order.

    Raises DataError when there are none, or when `exclude` names a source the store does not have.
    """
    check_sources(store, exclude)
    grouped: dict[tuple[int, int, int, int], list[int]] = defaultdict(list)
    captions = store.captions
    for row, motion in enumerate(captions.motion):
        if store.split[motion] == split and store.source[motion] not in exclude:
            key = (int(motion), int(captions.start[row]), int(captions.stop[row]), int(captions.label[row]))
            grouped[key].append(row)
    spans = [
        Span(
            start=int(store.offsets[motion]) + start,
            stop=int(store.offsets[motion]) + stop,
            label=label,
            texts=captions.text[rows],
            mirrored=captions.mirrored[rows],
        )
        for (motion, start, stop, label), rows in grouped.items()
        if stop - start >= min_frames
    ]
    if not spans:
        raise DataError(
            f"the store has no captioned motion of {min_frames} frames or more in split {split!r}",
            "check the labels given to mclip preprocess, and data.min_window of the recipe",
        )
    return spans


class _Lists:
    """Lists of numbers, looked up many at a time."""

    def __init__(self, lists: Sequence[ArrayLike]) -> None:
        """lists: R of them."""
        self.count = np.array([np.size(item) for item in lists], np.int64)  # (R,)
        self._values = np.concatenate([np.asarray(item, np.int64) for item in lists])
        self._first = np.cumsum(self.count) - self.count

    def take(self, rows: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """What stands at places (B,) of lists rows (B,)."""
        result: NDArray[np.int64] = self._values[self._first[rows] + places]
        return result

    def pick(self, rows: NDArray[np.int64], fractions: NDArray[np.float64]) -> NDArray[np.int64]:
        """What stands at fractions (B,), from 0 to less than 1, of lists rows (B,)."""
        return self.take(rows, (fractions * self.count[rows]).astype(np.int64))


class Pictures:
    """The embeddings of a store's pictures, by the frames they show."""

    def __init__(self, store: MotionStore, embeddings: NDArray[np.float32]) -> None:
        """embeddings (P, W): of the store's pictures. Raises DataError when it has none."""
        if store.frames is None or not len(store.frames):
            raise DataError(f"{store.file}: holds no pictures", "make it again with: mclip preprocess DIR --frames")
        at = store.offsets[store.frames.motion] + store.frames.frame
        order = np.argsort(at, kind="stable")
        # In the order they are stored in: they may be more than fit into memory.
        self._at, self._row, self._embeddings = at[order], order, embeddings

    def nearest(
        self, first: NDArray[np.int64], last: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Of windows from store frame first (B,) to last (B,): the picture (B, W) nearest to the middle of each.

        And whether there is one (B,): a picture of a frame outside may show something else.
        """
        middle = (first + last) / 2
        right = np.minimum(np.searchsorted(self._at, middle), len(self._at) - 1)
        left = np.maximum(right - 1, 0)
        index = np.where(middle - self._at[left] <= self._at[right] - middle, left, right)
        return self._embeddings[self._row[index]], (first <= self._at[index]) & (self._at[index] <= last)

    @staticmethod
    def none(size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What `nearest` says of `size` windows where there are no pictures."""
        return np.zeros((size, 0), np.float32), np.zeros(size, bool)


class WindowSampler:
    """Draws training batches from a split of a store whose texts, and maybe pictures, have been embedded.

    Labels with left and right in them have a mirrored twin: a mirrored "turn left" counts as "turn right".
    """

    def __init__(
        self,
        store: MotionStore,
        config: DataConfig,
        embeddings: NDArray[np.float32] | None,
        images: NDArray[np.float32] | None = None,
        *,
        seed: int,
        split: str = "train",
    ) -> None:
        """embeddings (K, W) of the store's texts, images (P, W) of its pictures; None leaves them out of batches."""
        self.store, self.config, self.seed = store, config, seed
        self.embeddings = np.zeros((len(store.texts), 0), np.float32) if embeddings is None else embeddings
        self._pictures = Pictures(store, images) if images is not None else None
        self._kind = representation(config.representation)
        self.spans = spans_of(store, split, config.exclude, config.min_window)
        self.labels = list(store.labels)
        self._mirrored_label = self._mirror_labels()
        self._bounds = np.array([(span.start, span.stop) for span in self.spans], np.int64)  # (S, 2)
        self._texts = _Lists([span.texts for span in self.spans])
        self._mirrored = _Lists([span.mirrored for span in self.spans])
        self._spans_of_label: dict[int, list[int]] = defaultdict(list)
        for index, span in enumerate(self.spans):
            self._spans_of_label[span.label].append(index)
        self._of_label = _Lists([self._spans_of_label.get(label, []) for label in range(len(self.labels))])
        self._drawn = np.array(sorted(self._spans_of_label))
        frames = np.array([sum(self.spans[i].stop - self.spans[i].start for i in self._spans_of_label[label])
                           for label in self._drawn], np.float64)  # fmt: skip
        weight = frames**config.balance
        self._weight = weight / weight.sum()
        self._texts_of_label = self._all_texts()
        self._exemplar_at: dict[int, tuple[int, int]] = {}  # found when they are first asked for
        self._siblings = self._styles()

    def batch(self, step: int, size: int, text_size: int) -> Batch:
        """The batch of a step: `size` windows, the first `text_size` of them with exemplars."""
        random = np.random.default_rng([self.seed, step])
        config, length = self.config, self.config.window
        labels = random.choice(self._drawn, size, p=self._weight)
        drawn = self._of_label.take(labels, random.integers(self._of_label.count[labels]))  # rows of self.spans
        first, stop = self._bounds[drawn].T
        speed = (
            random.uniform(*config.speed, size) if config.speed[0] < config.speed[1] else np.full(size, config.speed[0])
        )
        slack = stop - first - np.ceil((length - 1) * speed) - 1
        offset = np.floor(random.random(size) * (np.maximum(slack, 0) + 1))
        mirror = random.random(size) < config.mirror
        if config.anchored > 0:
            anchored = random.random(size) < config.anchored
            offset, speed, mirror = np.where(anchored, 0, offset), np.where(anchored, 1, speed), mirror & ~anchored
        start = first + offset.astype(np.int64)
        features, mask = gather(self.store, start, stop, length, speed, self._kind, mirror)
        image, has_image = Pictures.none(size)
        if self._pictures is not None:
            last = np.minimum(start + np.floor((length - 1) * speed), stop - 1)
            image, has_image = self._pictures.nearest(start, last.astype(np.int64))
        pick = random.random(size)
        text = np.where(mirror, self._mirrored.pick(drawn, pick), self._texts.pick(drawn, pick))
        labels = np.where(mirror, self._mirrored_label[labels], labels)
        exemplar, exemplar_mask = self._exemplars(labels[:text_size].tolist())
        others = [self._another(label, random) for label in labels[:text_size].tolist()]
        other, other_mask = self._exemplars(others)
        other_text = np.array([_pick(self._texts_of_label[label], random.random()) for label in others], np.int64)
        return Batch(
            features=features,
            mask=mask,
            text=self.embeddings[text],
            label=labels.astype(np.int64),
            image=image,
            has_image=has_image & ~mirror,  # it shows the other side
            exemplar=exemplar,
            exemplar_mask=exemplar_mask,
            other_text=self.embeddings[other_text],
            other=other,
            other_mask=other_mask,
            has_other=np.array(others, np.int64) != labels[:text_size],
        )

    def _mirror_labels(self) -> NDArray[np.int64]:
        """(M,) for every label the label of its mirrored motion; twins the store does not have are added."""
        index = {name: row for row, name in enumerate(self.labels)}
        result = []
        for name in list(self.labels):
            swapped = swap_left_right(name)
            if swapped not in index:
                index[swapped] = len(self.labels)
                self.labels.append(swapped)
            result.append(index[swapped])
        result += [index[swap_left_right(name)] for name in self.labels[len(result) :]]
        return np.array(result, np.int64)

    def _all_texts(self) -> dict[int, NDArray[np.int32]]:
        """All captions of every label, mirrored twins included."""
        texts: dict[int, set[int]] = defaultdict(set)
        for span in self.spans:
            texts[span.label].update(span.texts.tolist())
            texts[int(self._mirrored_label[span.label])].update(span.mirrored.tolist())
        return {label: np.array(sorted(rows), np.int32) for label, rows in texts.items()}

    def _exemplar(self, label: int) -> tuple[int, int]:
        """Where the medoid of a label's windows that begin where their spans begin (half of them: later, in long ones)
        begins and ends, at the latest.

        One fixed target per label keeps text decoding from averaging over phases. Distance: joint positions.
        """
        length = self.config.window
        starts: list[tuple[int, int, int]] = []
        for index in self._spans_of_label[label]:
            span = self.spans[index]
            starts.append((-min(span.stop - span.start, length), span.start, span.stop))
            middle = (span.start + span.stop - length) // 2
            if middle > span.start:
                starts.append((-length, middle, span.stop))
        starts.sort(key=lambda item: item[0])  # whole windows first
        longest = [item for item in starts if item[0] == starts[0][0]]
        chosen = longest[:: max(1, -(-len(longest) // _EXEMPLAR_CANDIDATES))]
        start, stop = np.array([c[1] for c in chosen]), np.array([c[2] for c in chosen])
        if len(chosen) == 1:
            return chosen[0][1:]
        features, _ = gather(self.store, start, stop, length, np.ones(len(chosen)), self._kind)
        thin = features[:, :: max(1, length // 20)]
        _, joints = forward_kinematics(*self._kind.decode(thin))
        flat = joints.reshape(len(chosen), -1)
        distance = np.linalg.norm(flat[:, None] - flat[None], axis=-1).sum(1)
        return chosen[int(np.argmin(distance))][1:]

    def _exemplars(self, labels: list[int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The exemplars (E, T, 25, 6) of labels and their masks (E, T); those of twins are mirrored.

        Read anew each time: a store may have as many labels as motions, and their windows would fill the memory.
        """
        own = [label if label in self._spans_of_label else int(self._mirrored_label[label]) for label in labels]
        for label in {*own} - self._exemplar_at.keys():
            self._exemplar_at[label] = self._exemplar(label)
        start, stop = np.array([self._exemplar_at[label] for label in own], np.int64).reshape(-1, 2).T
        features, mask = gather(self.store, start, stop, self.config.window, np.ones(len(own)), self._kind)
        mirrored = np.array(own, np.int64) != labels
        features[mirrored] = self._kind.mirror(features[mirrored])
        return features, mask

    def _styles(self) -> dict[int, list[int]]:
        """For every label the other labels of the same action ("walk/angry" and "walk/old")."""
        actions: dict[str, list[int]] = defaultdict(list)
        for label in sorted(self._texts_of_label):
            if STYLE_SEPARATOR in self.labels[label]:
                actions[self.labels[label].split(STYLE_SEPARATOR)[0]].append(label)
        return {label: [other for other in group if other != label] for group in actions.values() for label in group}

    def _another(self, label: int, random: np.random.Generator) -> int:
        siblings = self._siblings.get(label)
        return siblings[random.integers(len(siblings))] if siblings else label


def _pick(rows: NDArray[np.int32], fraction: float) -> int:
    return int(rows[int(fraction * len(rows))])
