"""Windows drawn as the original MotionCLIP draws them.

Every motion is cut into pieces of one length, from its first frame on; what is left at its end is dropped, and so are
motions shorter than a piece. An epoch takes one window out of every piece, in an order and at places drawn anew (the
last place a window would fit is never drawn). A window's caption is all that is said of its frames, joined
(mclip.data.captions), or the name of one of the action categories of its frames, drawn anew. It has the picture nearest
to its middle.

Where ours differs from the original: windows of which nothing is said are not drawn (there their text is empty, or,
where categories are drawn, they drop out of their batch); batches go on over the end of an epoch (there its last batch
is smaller); the first motion of all is used; and a piece has a picture for each stretch of 60 frames, not one.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from mclip.data.captions import WindowCaptions
from mclip.data.dataset import Batch, Pictures, check_sources
from mclip.data.gathering import gather
from mclip.data.labels import swap_left_right
from mclip.data.store import MotionStore
from mclip.errors import DataError
from mclip.recipe import DataConfig
from mclip.runtime.babel import BABEL_CLASSES
from mclip.runtime.representation import representation


def pieces(start: int, stop: int, length: int, shortest: int | None = None) -> list[tuple[int, int]]:
    """Frames start to stop, cut into pieces (start and stop) of `length` frames, one after another.

    What is left at the end is a piece, too, if it has `shortest` frames; by default it is dropped.
    """
    ends = ((first, min(first + length, stop)) for first in range(start, stop, length))
    return [(first, end) for first, end in ends if end - first >= (length if shortest is None else shortest)]


def places(piece: int, window: int) -> int:
    """How many of a piece's frames a window drawn in it may begin at, both in frames (module docstring)."""
    return max(1, piece - window)


class PieceSampler:
    """Draws training batches from the pieces of a split of a store.

    texts: the captions of all windows that can be drawn, each once, (and of their mirror images)
    """

    def __init__(self, store: MotionStore, config: DataConfig, *, seed: int, split: str = "train") -> None:
        """Raises DataError when no piece of the split has a caption, or data.exclude names no source of the store."""
        check_sources(store, config.exclude)
        self.store, self.config, self.seed = store, config, seed
        self._kind = representation(config.representation)
        starts, self._sets, rows = self._read(split)
        if not starts:
            raise DataError(
                f"the store has no captioned piece of {config.piece} frames in split {split!r}",
                "check the labels given to mclip preprocess, and data.piece of the recipe",
            )
        self._starts = np.array(starts, np.int64)  # (P,) frames of the store
        self._set_at = np.array(rows, np.int32)  # (P, S) row of _sets for a window at each place; -1: nothing is said
        names = {text for texts in self._sets for text in texts}
        if config.mirror > 0:
            names |= {swap_left_right(text) for text in names}
        self.texts = sorted(names)
        self._row = {text: row for row, text in enumerate(self.texts)}
        self._embeddings: NDArray[np.float32] = np.zeros((len(self.texts), 0), np.float32)
        self._pictures: Pictures | None = None

    def __len__(self) -> int:
        """The number of pieces: windows in an epoch."""
        return len(self._starts)

    def align(self, texts: NDArray[np.float32] | None, images: NDArray[np.float32] | None) -> None:
        """Give batches the embeddings (K, W) of `texts` and (P, W) of the store's pictures; None leaves them out."""
        if texts is not None:
            self._embeddings = texts
        self._pictures = Pictures(self.store, images) if images is not None else None

    def batch(self, step: int, size: int, text_size: int = 0) -> Batch:
        """The batch of a step. Labels are captions' numbers; there are no exemplars, whatever `text_size` says."""
        random = np.random.default_rng([self.seed, step])
        length = self.config.window
        drawn = self._order(step * size + np.arange(size))
        said = np.cumsum(self._set_at[drawn] >= 0, axis=1)  # (B, S) places with captions, up to each
        at = np.argmax(said > random.integers(said[:, -1])[:, None], axis=1)
        sets = [self._sets[row] for row in self._set_at[drawn, at]]
        texts = [texts[pick] for texts, pick in zip(sets, random.integers([len(t) for t in sets]), strict=True)]
        mirror = random.random(size) < self.config.mirror
        rows = np.array([self._row[swap_left_right(t) if m else t] for t, m in zip(texts, mirror, strict=True)])
        start = self._starts[drawn] + at
        features, mask = gather(self.store, start, start + length, length, np.ones(size), self._kind, mirror)
        image, has_image = Pictures.none(size)
        if self._pictures is not None:
            image, has_image = self._pictures.nearest(start, start + length - 1)
        nothing, no_mask = np.zeros((0, *features.shape[1:]), np.float32), np.zeros((0, length), bool)
        return Batch(
            features=features,
            mask=mask,
            text=self._embeddings[rows],
            label=rows.astype(np.int64),
            image=image,
            has_image=has_image & ~mirror,
            exemplar=nothing,
            exemplar_mask=no_mask,
            other_text=self._embeddings[:0],
            other=nothing,
            other_mask=no_mask,
            has_other=np.zeros(0, bool),
        )

    def _order(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pieces that the windows `at`, counted from the start of training, are from."""
        result = np.empty(len(at), np.int64)
        epochs, within = np.divmod(at, len(self))
        for epoch in np.unique(epochs):
            # The third number tells these generators from those of the steps.
            shuffled = np.random.default_rng([self.seed, int(epoch), 1]).permutation(len(self))
            result[epochs == epoch] = shuffled[within[epochs == epoch]]
        return result

    def _read(self, split: str) -> tuple[list[int], list[tuple[str, ...]], list[list[int]]]:
        """The pieces' starts, the sets of captions that their windows have, and which set is whose."""
        store, piece, window = self.store, self.config.piece, self.config.window
        count = places(piece, window)
        captions, sets = WindowCaptions(store), dict[tuple[str, ...], int]()
        # Where, as a window moves on, a caption's last frame leaves it or its first one enters.
        edges: dict[int, set[int]] = defaultdict(set)
        for motion, start, stop in zip(
            store.captions.motion.tolist(), store.captions.start.tolist(), store.captions.stop.tolist(), strict=True
        ):
            edges[motion] |= {stop, start - window + 1}
        starts, rows = list[int](), list[list[int]]()
        for motion in sorted(edges):
            if store.split[motion] != split or store.source[motion] in self.config.exclude:
                continue
            for first, _ in pieces(0, store.length(motion), piece):
                cuts = sorted({first, *(edge for edge in edges[motion] if first < edge < first + count)})
                row = list[int]()
                for cut, end in zip(cuts, [*cuts[1:], first + count], strict=True):
                    texts = self._texts(captions, motion, cut, cut + window)
                    row += [sets.setdefault(texts, len(sets)) if texts else -1] * (end - cut)
                if max(row) >= 0:
                    starts.append(int(store.offsets[motion]) + first)
                    rows.append(row)
        return starts, list(sets), rows

    def _texts(self, captions: WindowCaptions, motion: int, start: int, stop: int) -> tuple[str, ...]:
        """What the caption of a window may be."""
        if self.config.captions == "joined":
            text = captions.text(motion, start, stop)
            return (text,) if text else ()
        names = [self.store.labels[label] for label in captions.categories(motion, start, stop)]
        known = BABEL_CLASSES[: self.config.classes]
        return tuple(name for name in names if name in known or not self.config.classes)
