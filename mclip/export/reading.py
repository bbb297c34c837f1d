"""Fitting the classifiers that tell what actions and styles a text speaks of, see mclip.runtime.reading."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mclip.runtime.prior import unit
from mclip.runtime.reading import Reading, action_names, split_label, style_names

# Unit embeddings of MiniLM and of CLIP differ little from each other; this far out a softmax can be sure of itself.
_SCALE = 20.0
# What keeps the weights small. Three times as much tells 0.3 % fewer of unseen phrases right, ten times 0.8 %.
_DECAY = 1e-4
_ITERATIONS = 60
# In how many styles every caption without one is taken as well.
_WAYS = 3
_PERSON = re.compile(r"\bperson\b")
_SUBJECTS = ("man", "woman", "guy", "character", "lady", "figure", "boy", "girl")


def other_subjects(texts: Sequence[str]) -> list[str]:
    """Captions in which a person does something, said of somebody else: whoever it is, it is the same action."""
    found = [text for text in texts if _PERSON.search(text)]
    return [_PERSON.sub(_SUBJECTS[row % len(_SUBJECTS)], text) for row, text in enumerate(found)]


def fit_reading(labels: tuple[str, ...], captions: Sequence[NDArray[np.float32]]) -> Reading:
    """Classifiers for labels, from the unit embeddings (n, D) of each label's captions.

    All actions count as much, and so do all styles: who types "juggle" means it as often as who types "walk". Every
    caption without a style is also taken with one, which moves its embedding as it moves those of other actions, so
    that "kick angrily" is read although nobody was recorded doing it.
    """
    pairs = [split_label(label) for label in labels]
    actions, styles = action_names(labels), style_names(labels)
    rows, action, style = [*captions], [], []
    for (name, way), vectors in zip(pairs, captions, strict=True):
        action.append(np.full(len(vectors), actions.index(name)))
        style.append(np.full(len(vectors), styles.index(way)))
    steps = _steps(pairs, styles, captions)
    plain = [(name, vectors) for (name, way), vectors in zip(pairs, captions, strict=True) if way == ""]
    known = np.flatnonzero(steps.any(axis=1))  # a style that nothing is seen beside says nothing of others
    for turn in range(_WAYS if len(known) else 0):
        for name, vectors in plain:
            # Each time with other styles, and all styles equally often.
            ways = known[(turn * len(known) // _WAYS + np.arange(len(vectors))) % len(known)]
            rows.append(unit(vectors + steps[ways]))
            action.append(np.full(len(vectors), actions.index(name)))
            style.append(1 + ways)
    embeddings = torch.from_numpy(np.concatenate(rows))
    return Reading(
        labels,
        _fit(embeddings, torch.from_numpy(np.concatenate(action)), len(actions)),
        _fit(embeddings, torch.from_numpy(np.concatenate(style)), len(styles)),
    )


def _steps(
    pairs: Sequence[tuple[str, str]], styles: Sequence[str], captions: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """From captions in no style to those in each (S-1, D), in the mean of the actions known in both or in several."""
    said: dict[tuple[str, str], NDArray[np.float32]] = {}
    for pair, vectors in zip(pairs, captions, strict=True):
        said[pair] = vectors.mean(axis=0)
    steps = []
    for way in styles[1:]:
        differences = []
        for action in sorted({name for name, known in pairs if known == way}):
            others = [said[pair] for pair in said if pair[0] == action and pair[1] != way]
            reference = said.get((action, ""), np.mean(others, axis=0) if others else None)
            if reference is not None:
                differences.append(said[action, way] - reference)
        steps.append(np.mean(differences, axis=0) if differences else np.zeros(captions[0].shape[1]))
    return np.array(steps, np.float32).reshape(len(steps), captions[0].shape[1])


def _fit(embeddings: torch.Tensor, classes: torch.Tensor, count: int) -> NDArray[np.float32]:
    """Weights and bias (count, D+1) of a softmax classifier: multinomial logistic regression with an L2 penalty, by
    L-BFGS."""
    weight = torch.zeros(count, embeddings.shape[1], requires_grad=True)
    bias = torch.zeros(count, requires_grad=True)
    share = 1.0 / torch.bincount(classes, minlength=count)[classes]
    share /= share.sum()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = _SCALE * embeddings @ weight.T + bias
        each = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
        loss = (each * share).sum() + _DECAY * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return torch.cat([_SCALE * weight, bias[:, None]], dim=1).detach().numpy()
