"""What a bank knows about styles: labels such as "walk/angry" and "walk/old" name an action and a way to do it.

A direction of a style has two halves of one weight. The difference between the latents of an action in two styles is
what recordings show, but of few actors; the difference between the captions' embeddings is the same for all, and the
decoder was trained on such. Either alone shows less of the style, or loses more of the action (measured with a judge
of real recordings).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mclip.runtime.prior import STYLE_SEPARATOR, Bank, unit

# Styles this near to the best one say the same in other words ("old" and "elderly" in the mini pack: 0.02 apart).
_SAME = 0.07
# An action that is less like the own one by this much, in cosine, has e times less to say about a style the own one was
# never seen in.
_LIKE = 0.1
_NEGATIONS = frozenset(("not", "no", "never", "without"))


@dataclass(frozen=True, slots=True, eq=False)
class Styles:
    """The labels of a bank, taken apart.

    labels    M of them
    groups    for each action its styles and which label each is; "" is the label without a style
    centres   (M, D) the mean latent of each label's motions
    captions  (M, D) the mean embedding of each label's captions
    """

    labels: tuple[str, ...]
    groups: dict[str, dict[str, int]]
    centres: NDArray[np.float32]
    captions: NDArray[np.float32]

    @classmethod
    def of(cls, bank: Bank) -> Styles:
        """The styles of a bank."""
        groups: dict[str, dict[str, int]] = {}
        for index, label in enumerate(bank.labels):
            action, style = _parts(label)
            groups.setdefault(action, {})[style] = index
        centres = np.zeros((len(bank.labels), bank.latents.shape[1]), np.float32)
        np.add.at(centres, bank.label, bank.latents)
        captions = np.add.reduceat(bank.captions[bank.ids], bank.offsets[:-1], axis=0)
        centres /= np.bincount(bank.label)[:, None]
        captions /= np.diff(bank.offsets)[:, None]
        return cls(labels=bank.labels, groups=groups, centres=centres, captions=captions)

    def label_of(self, latent: NDArray[np.float32]) -> str:
        """The label whose centre is nearest to a latent (D,)."""
        lengths = np.maximum(np.linalg.norm(self.centres, axis=1), 1e-9)
        return self.labels[int(np.argmax(self.centres @ latent / lengths))]

    def find(self, wording: NDArray[np.float32], own: str) -> tuple[str, float]:
        """The style whose captions differ from those of other styles as `wording` (D,) says, and the cosine of the two.

        Of styles that fit about equally, one that the action of label `own` is known in is taken. ("", 0.0) if the bank
        knows no styles.
        """
        scores = {
            style: _cosine(wording, self._differences(self.captions, style, "", actions).mean(axis=0))
            for style in sorted({style for group in self.groups.values() for style in group if style})
            if (actions := self._actions(style))
        }
        if not scores:
            return "", 0.0
        near = [style for style in scores if scores[style] >= max(scores.values()) - _SAME]
        known = [style for style in near if _parts(own)[0] in self._actions(style)]
        style = max(known or near, key=lambda name: scores[name])
        return style, scores[style]

    def direction(self, style: str, own: str) -> NDArray[np.float32]:
        """From the latents of label `own` to those of the same action in another style (D,), see module docstring.

        If its action was never seen in that style, from those that were, the more the more like it they are, and as far
        as their own way is: they differ, and the mean of what they say is shorter than what any says.
        """
        action, own_style = _parts(own)
        actions = self._actions(style)
        if action in actions:
            actions = [action]
        places = np.stack([self._place(name) for name in actions])
        likeness = places @ self._place(action)
        weight = np.exp((likeness - likeness.max()) / _LIKE)
        weight /= weight.sum()
        differences = self._differences(self.centres, style, own_style, actions)
        shown = unit(weight @ differences)
        said = unit(weight @ self._differences(self.captions, style, own_style, actions))
        length = float(weight @ np.linalg.norm(differences, axis=1))
        return (length * unit(shown + said)).astype(np.float32)

    def _place(self, action: str) -> NDArray[np.float32]:
        """Where an action is, whatever its style (D,)."""
        return unit(self.centres[list(self.groups[action].values())].mean(axis=0))

    def _actions(self, style: str) -> list[str]:
        """Actions known in this style and in another."""
        return [action for action, group in self.groups.items() if style in group and len(group) > 1]

    def _differences(
        self, table: NDArray[np.float32], style: str, reference: str, actions: list[str]
    ) -> NDArray[np.float32]:
        """From the rows of a style `reference`, or of all others where it is missing, to those of `style`; (A, D)."""
        differences = []
        for group in (self.groups[action] for action in actions):
            others = [group[name] for name in group if name != style]
            # To take a motion's own style away leads to the others.
            if reference in group and reference != style:
                others = [group[reference]]
            differences.append(table[group[style]] - table[others].mean(axis=0))
        return np.stack(differences)


def is_opposite(text: str, style: str) -> bool:
    """Whether one of the two is denied: "confident" for the style "not-confident", "not angry" for "angry".

    Text encoders hardly hear a "not".
    """
    words, (first, _, denied) = text.lower().split(), style.partition("-")
    return any(word in _NEGATIONS for word in words) != (first == "not" and denied in words)


def style_of(label: str) -> str:
    """The style a label names, or ""."""
    return _parts(label)[1]


def _parts(label: str) -> tuple[str, str]:
    action, _, style = label.partition(STYLE_SEPARATOR)
    return action, style


def _cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-9))
