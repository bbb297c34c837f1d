"""What actions and styles a text speaks of, told from its embedding.

Two linear classifiers (linear probes, as CLIP's paper uses them in section 3.2) that were fitted to the captions of the
training motions when the pack was made: mclip.export.reading. A nearest caption has no idea which words of a
sentence matter; the classifiers learnt it. Of phrases they had not seen they tell 83 % right among 128 actions, the
nearest caption 65 %, the mean of the nearest and of all captions of an action 68 % (five folds over 2,800 phrases).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mclip.names import PLAIN_STYLE, STYLE_SEPARATOR

# Of what a bank holds: embeddings and latents are about 1, weights some hundreds.
LARGEST = 1e6


@dataclass(frozen=True, eq=False)
class Reading:
    """Linear classifiers of unit text embeddings.

    labels         M of them, "action" or "action/style"
    action_weights (A, D+1) of each action of the labels, in alphabetical order; the last column is the bias
    style_weights  (S, D+1) of each style, likewise; the first is "", no particular style
    """

    labels: tuple[str, ...]
    action_weights: NDArray[np.float32]
    style_weights: NDArray[np.float32]

    @cached_property
    def action_of(self) -> NDArray[np.int64]:
        """Which action each label is (M,)."""
        place = {name: index for index, name in enumerate(action_names(self.labels))}
        return np.array([place[split_label(label)[0]] for label in self.labels])

    @cached_property
    def style_of(self) -> NDArray[np.int64]:
        """Which style each label is (M,), 0 for none."""
        place = {name: index for index, name in enumerate(style_names(self.labels))}
        return np.array([place[split_label(label)[1]] for label in self.labels])

    def fits(self, labels: tuple[str, ...], width: int) -> bool:
        """Whether it is made for these labels and for embeddings of this width, of numbers that are not absurd."""
        wanted = (
            (len(action_names(labels)), self.action_weights),
            (len(style_names(labels)), self.style_weights),
        )
        return self.labels == labels and all(
            weights.shape == (count, width + 1) and bool((np.abs(weights) <= LARGEST).all())
            for count, weights in wanted
        )

    def actions(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logarithms (B, A) of how probably each action is meant, for unit embeddings (B, D)."""
        return _log_softmax(embeddings, self.action_weights)

    def styles(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logarithms (B, S) of how probably each style is meant, for unit embeddings (B, D)."""
        return _log_softmax(embeddings, self.style_weights)


def action_names(labels: Sequence[str]) -> list[str]:
    """The actions of labels, in the order of a `Reading`."""
    return sorted({split_label(label)[0] for label in labels})


def style_names(labels: Sequence[str]) -> list[str]:
    """The styles of labels, in the order of a `Reading`: first "", no particular one."""
    return sorted({split_label(label)[1] for label in labels} | {""})


def split_label(label: str) -> tuple[str, str]:
    """The action and the style of a label, "" for none: "walk/old" is ("walk", "old"), "walk/normal" ("walk", "")."""
    action, _, style = label.partition(STYLE_SEPARATOR)
    return action, plain_style(style)


def plain_style(style: str) -> str:
    """The style, "" if it is no particular one."""
    return "" if style == PLAIN_STYLE else style


def _log_softmax(embeddings: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    logits = embeddings @ weights[:, :-1].T + weights[:, -1]
    logits -= logits.max(axis=1, keepdims=True)
    result: NDArray[np.float32] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return result
