"""Finding a motion by its caption, and a caption by its motion.

N pairs of a motion and one of its captions. A candidate is right if the data say that caption of that motion: the pair
itself, every other pair with the same caption, and captions that were given to both motions. The rank of a query is 1
plus the number of wrong candidates that are at least as near as the nearest right one, so a tie counts against it.

    all            all N captions and motions are candidates (TMR, Petrovich et al. 2023, "all")
    distinct       each caption once, as a candidate and as a query
    batches of 32  the pairs in random batches of 32, ranked within (Guo et al. 2022); a rest is left out
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BATCH = 32
TEXT_TO_MOTION, MOTION_TO_TEXT = "text_to_motion", "motion_to_text"
# Rows of the similarity matrix held at once.
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Recall:
    """Shares of queries whose rank is at most 1, 3, 5 and 10, and the median rank."""

    r1: float
    r3: float
    r5: float
    r10: float
    median_rank: float


def recall(ranks: NDArray[np.int64]) -> Recall:
    """Sum up ranks (N,), the best being 1."""
    r1, r3, r5, r10 = (float((ranks <= k).mean()) for k in (1, 3, 5, 10))
    return Recall(r1, r3, r5, r10, float(np.median(ranks)))


def ranks(queries: NDArray[np.float32], candidates: NDArray[np.float32], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rank (N,) of the best right candidate for each query, by the product of vectors (N, D) and (M, D).

    right (N, M): which candidates are right; each query has one at least.
    """
    result = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, start + _ROWS)
        result[rows] = ranks_of(queries[rows] @ candidates.T, right[rows])
    return result


def ranks_of(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rank (N,) of the best right candidate for scores (N, M), higher being nearer."""
    best = np.where(right, scores, -np.inf).max(axis=1)
    ranked: NDArray[np.int64] = 1 + ((scores >= best[:, None]) & ~right).sum(axis=1)
    return ranked


def retrieve(
    motions: NDArray[np.float32],
    texts: NDArray[np.float32],
    captions: NDArray[np.int64],
    right: NDArray[np.bool_],
    random: np.random.Generator,
) -> dict[str, dict[str, Recall]]:
    """Recall by protocol (module docstring) and direction; without "batches_of_32" for fewer than 32 pairs.

    motions   (N, D) unit latents
    texts     (C, D) unit embeddings of the distinct captions of the pairs
    captions  (N,) index into texts: the caption of each pair
    right     (N, C) whether a caption was given to a motion; true for every pair
    """
    pairs = right[:, captions]  # (N, N): motion, caption of a pair
    result = {
        "all": _both(
            ranks(texts[captions], motions, pairs.T),
            ranks(motions, texts[captions], pairs),
        ),
        "distinct": _both(ranks(texts, motions, right.T), ranks(motions, texts, right)),
    }
    order = random.permutation(len(motions))
    batches = [order[start : start + BATCH] for start in range(0, len(order) - BATCH + 1, BATCH)]
    if batches:
        there, back = [], []
        for batch in batches:
            within, said = pairs[np.ix_(batch, batch)], texts[captions[batch]]
            there.append(ranks(said, motions[batch], within.T))
            back.append(ranks(motions[batch], said, within))
        result[f"batches_of_{BATCH}"] = _both(np.concatenate(there), np.concatenate(back))
    return result


def _both(there: NDArray[np.int64], back: NDArray[np.int64]) -> dict[str, Recall]:
    return {TEXT_TO_MOTION: recall(there), MOTION_TO_TEXT: recall(back)}
