"""From text embeddings to motion latents.

Text and latents share a space but fill different parts of it: the decoder does best on latents that motions really
have. `Bank` answers a text with the latent of a training motion whose label's captions say nearly the same.

bank.npz (no pickles, uncompressed; N entries, M labels, K captions, D the latent width):

    latents        (N, D) int8     latents of windows, times
    latent_scale   (N,)   float32  one number each; rounding turns a vector by less than a degree
    frames         (N,)   int32    frames in each window
    names          uint8           UTF-8, one line per entry: "path#start-stop", frames of the source motion
    label          (N,)   int32    index into labels
    labels         uint8           UTF-8, one line per label
    captions       (K, D) int8     unit embeddings of the captions, times
    caption_scale  (K,)   float32  one number each
    texts          uint8           UTF-8, one line per caption
    offsets        (M+1,) int32    label i has the captions ids[offsets[i]:offsets[i+1]], at least one
    ids            (E,)   int32    indices into captions
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mclip.errors import PackError
from mclip.files import atomic_path
from mclip.npz import read_npz

# Between "action" and "style" in a label.
STYLE_SEPARATOR = "/"
_PLAIN_STYLE = STYLE_SEPARATOR + "normal"
# A text speaks of a style if it agrees with it by so much more than with the plain action. Styled prompts in words no
# caption has differ by 0.06 and more, others by 0.01 at most.
_STYLED = 0.04
# Text encoders hardly tell left from right; a label that speaks of the other side is this much farther away.
_WRONG_SIDE = 0.2
# A label that agrees with a text by this much less, in cosine, counts e times less for what the text is expected to be.
_SHARPNESS = 0.05
# The same for entries of a label and how near their latents are to the text, when variations are drawn. They are drawn
# from the best label and from others that agree with the text this much less at most.
_SPREAD = 0.05
_AS_GOOD = 0.05
# Two latents this near to each other, in cosine, are the same motion to the eye.
_SAME = 0.999
# How far a blend of two entries goes from the one towards the other; beyond the middle it would be the other's.
_BLEND = (0.2, 0.5)
_NEIGHBOURS = 8
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """What a prior found for a text.

    latent   (D,) float32
    frames   how many frames of it come from the training motion
    score    how well text and caption agree: their cosine, 1 for the same words
    caption  the nearest caption
    label    the action class it belongs to
    name     the training motion the latent is of, or nearest to
    entry    its number in the prior
    """

    latent: NDArray[np.float32]
    frames: int
    score: float
    caption: str
    label: str
    name: str
    entry: int


class Prior(Protocol):
    """Turns texts into latents."""

    def match(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> list[Match]:
        """One match for each of the texts, whose embeddings are (B, D); the same input gives the same matches."""

    def vary(self, text: str, embedding: NDArray[np.float32], count: int, seed: int) -> list[Match]:
        """`count` different matches of one text, the first that of `match`; the same seed gives the same ones."""

    def expect(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit vectors (B, D) around which the latents of motions lie that show what the texts say."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """The latents (N, D) and caption embeddings (K, D) of training motions; other fields as in the module docstring."""

    latents: NDArray[np.float32]
    frames: NDArray[np.int32]
    names: tuple[str, ...]
    label: NDArray[np.int32]
    labels: tuple[str, ...]
    captions: NDArray[np.float32]
    texts: tuple[str, ...]
    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]

    def __post_init__(self) -> None:
        entries, labels, captions = len(self.latents), len(self.labels), len(self.captions)
        for valid, what in (
            (self.latents.ndim == 2 and self.latents.shape[1:] == self.captions.shape[1:], "latents and captions"),
            (entries > 0 and self.frames.shape == (entries,) and len(self.names) == entries, "frames and names"),
            (self.label.shape == (entries,) and set(self.label.tolist()) == set(range(labels)), "labels"),
            (len(self.texts) == captions, "texts"),
            (self.offsets.shape == (labels + 1,) and self.offsets[0] == 0, "offsets"),
            ((np.diff(self.offsets) > 0).all() and self.offsets[-1] == len(self.ids), "offsets"),
            (self.ids.ndim == 1 and ((self.ids >= 0) & (self.ids < captions)).all(), "ids"),
            (np.isfinite(self.latents).all() and np.isfinite(self.captions).all(), "values"),
        ):
            if not valid:
                raise PackError(f"the bank's {what} do not fit together", "re-run mclip export")

    def __len__(self) -> int:
        """The number of entries N."""
        return len(self.latents)

    def match(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> list[Match]:
        """The best entry for each text, whose embeddings are (B, D); of equals, the first.

        First the label: by its nearest caption and by all its captions together, so that one odd wording among many
        does not decide, and without a style unless the text speaks of one. Then the entry of that label whose latent is
        nearest to the text.
        """
        embeddings = unit(embeddings)
        to_captions = embeddings @ self.captions.T  # (B, K)
        best = [self._best(agreement) for agreement in self._agreement(texts, to_captions)]
        to_latents = embeddings @ self.latents.T  # (B, N)
        return [self._match(label, to_captions[row], to_latents[row]) for row, label in enumerate(best)]

    def vary(self, text: str, embedding: NDArray[np.float32], count: int, seed: int) -> list[Match]:
        """The best entry, others of its label and of labels that agree with the text as well, then blends of two.

        Entries are drawn one by one with a probability that grows with the nearness of text and latent and with the
        distance from those already drawn. When none that differs is left, one of them is moved towards another, or
        towards a near entry of any label if it is the only one.
        """
        if count == 1:
            return self.match([text], embedding[None])  # numpy.random takes long to load
        embedding = unit(embedding)
        to_captions, to_latents = embedding[None] @ self.captions.T, self.latents @ embedding
        agreement = self._agreement([text], to_captions)[0]  # (M,)
        best = self._match(self._best(agreement), to_captions[0], to_latents)
        entries = np.flatnonzero(agreement[self.label] >= agreement.max() - _AS_GOOD)
        wanted = np.zeros(len(entries))
        for label in set(self.label[entries].tolist()):
            rows = self.label[entries] == label
            near = np.exp((to_latents[entries[rows]] - to_latents[entries[rows]].max()) / _SPREAD)
            wanted[rows] = np.exp((agreement[label] - agreement.max()) / _SHARPNESS) * near / near.sum()
        random = np.random.default_rng([seed, zlib.crc32(text.encode())])
        directions = unit(self.latents[entries])  # (n, D)
        chosen = [int(np.flatnonzero(entries == best.entry)[0])]
        while len(chosen) < count:
            nearest = (directions @ directions[chosen].T).max(axis=1)
            weight = np.where(nearest < _SAME, wanted * (1.0 - nearest), 0.0)
            if not weight.sum() > 0.0:
                break
            chosen.append(int(random.choice(len(entries), p=weight / weight.sum())))
        matches = [self._entry(int(entries[row]), to_captions[0]) for row in chosen]
        return matches + [self._blend(matches, random) for _ in range(count - len(matches))]

    def expect(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean latents of all labels, weighted by how well their captions agree with the texts."""
        agreement = self._agreement(texts, embeddings @ self.captions.T)  # (B, M)
        weight = np.exp((agreement - agreement.max(axis=1, keepdims=True)) / _SHARPNESS)
        return unit((weight @ self._means).astype(np.float32))

    def _agreement(self, texts: Sequence[str], to_captions: NDArray[np.float32]) -> NDArray[np.float32]:
        """How well texts and labels agree (B, M), from the cosines of texts and captions (B, K)."""
        by_label = to_captions[:, self.ids]  # (B, E)
        nearest = np.maximum.reduceat(by_label, self.offsets[:-1], axis=1)  # (B, M)
        mean = np.add.reduceat(by_label, self.offsets[:-1], axis=1) / np.diff(self.offsets)
        result = (0.5 * (nearest + mean)).astype(np.float32)
        for row, text in enumerate(texts):
            if spoken := _side(text):
                result[row] -= [_WRONG_SIDE * ({spoken, side} == {"left", "right"}) for side in self._sides]
        return result

    def _best(self, agreement: NDArray[np.float32]) -> int:
        """The label that agrees best (M,); a style is taken only where the text says so."""
        best = int(agreement.argmax())
        action = self.labels[best].partition(STYLE_SEPARATOR)[0]
        plain = [row for row, label in enumerate(self.labels) if label in (action, action + _PLAIN_STYLE)]
        likely = max(plain, key=lambda row: float(agreement[row]), default=best)
        return likely if agreement[best] - agreement[likely] < _STYLED else best

    def _blend(self, matches: Sequence[Match], random: np.random.Generator) -> Match:
        """One of the matches moved towards another; what is said of it is true of the match it is nearest to then."""
        one = matches[int(random.integers(len(matches)))]
        others = [match.entry for match in matches if match.entry != one.entry]
        if not others:
            nearness = unit(self.latents) @ unit(one.latent)
            order = np.argsort(-nearness, kind="stable")
            order = order[order != one.entry]
            differ = order[nearness[order] < _SAME]
            others = (differ if len(differ) else order)[:_NEIGHBOURS].tolist()
        if not others:
            return one  # a bank of one motion
        other = self.latents[others[int(random.integers(len(others)))]]
        latent = _slerp(one.latent, other, random.uniform(*_BLEND))
        nearest = max(matches, key=lambda match: float(unit(match.latent) @ latent))
        return replace(nearest, latent=latent)

    @cached_property
    def _means(self) -> NDArray[np.float32]:
        """The direction of each label's latents (M, D); every label has some."""
        order = np.argsort(self.label, kind="stable")
        starts = np.searchsorted(self.label[order], np.arange(len(self.labels)))
        return unit(np.add.reduceat(unit(self.latents[order]), starts, axis=0))

    @cached_property
    def _sides(self) -> list[str]:
        """Which side the captions of each label speak of."""
        return [_side(" ".join(self.texts[row] for row in self._captions_of(i))) for i in range(len(self.labels))]

    def _captions_of(self, label: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[label] : self.offsets[label + 1]]

    def _match(self, label: int, to_captions: NDArray[np.float32], to_latents: NDArray[np.float32]) -> Match:
        entries = np.flatnonzero(self.label == label)
        return self._entry(int(entries[to_latents[entries].argmax()]), to_captions)

    def _entry(self, entry: int, to_captions: NDArray[np.float32]) -> Match:
        label = int(self.label[entry])
        captions = self._captions_of(label)
        caption = int(captions[to_captions[captions].argmax()])
        return Match(
            latent=self.latents[entry],
            frames=int(self.frames[entry]),
            score=min(1.0, float(to_captions[caption])),
            caption=self.texts[caption],
            label=self.labels[label],
            name=self.names[entry],
            entry=entry,
        )

    def save(self, path: Path) -> None:
        """Write bank.npz (module docstring), atomically."""
        latents, latent_scale = _to_int8(self.latents)
        captions, caption_scale = _to_int8(self.captions)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                latents=latents,
                latent_scale=latent_scale,
                frames=self.frames,
                names=_to_lines(self.names),
                label=self.label,
                labels=_to_lines(self.labels),
                captions=captions,
                caption_scale=caption_scale,
                texts=_to_lines(self.texts),
                offsets=self.offsets,
                ids=self.ids,
            )


_LAYOUT: dict[str, tuple[type, int]] = {
    "latents": (np.int8, 2),
    "latent_scale": (np.float32, 1),
    "frames": (np.int32, 1),
    "names": (np.uint8, 1),
    "label": (np.int32, 1),
    "labels": (np.uint8, 1),
    "captions": (np.int8, 2),
    "caption_scale": (np.float32, 1),
    "texts": (np.uint8, 1),
    "offsets": (np.int32, 1),
    "ids": (np.int32, 1),
}


def load_bank(content: bytes, latent: int) -> Bank:
    """Read bank.npz for latents of width `latent`. Raises PackError for anything else."""
    try:
        # It is not compressed: all of its arrays are no larger than the file.
        arrays: dict[str, NDArray[Any]] = read_npz(io.BytesIO(content), dict.fromkeys(_LAYOUT, len(content)))
        for name, (dtype, ndim) in _LAYOUT.items():
            if arrays[name].dtype != dtype or arrays[name].ndim != ndim:
                raise PackError(f"the bank's {name} is {arrays[name].dtype} {arrays[name].shape}")
        # What is infinite is refused as that.
        with np.errstate(over="ignore", invalid="ignore"):
            latents, captions = (
                arrays[name] * arrays[f"{name[:-1]}_scale"][:, None] for name in ("latents", "captions")
            )
        bank = Bank(
            latents=latents,
            frames=arrays["frames"],
            names=_from_lines(arrays["names"]),
            label=arrays["label"],
            labels=_from_lines(arrays["labels"]),
            captions=captions,
            texts=_from_lines(arrays["texts"]),
            offsets=arrays["offsets"],
            ids=arrays["ids"],
        )
    except PackError:
        raise
    except Exception as error:
        # numpy and zipfile raise a dozen kinds for damaged archives.
        raise PackError(f"the bank cannot be read ({error})", "re-run mclip export") from None
    if bank.latents.shape[1] != latent:
        width = bank.latents.shape[1]
        raise PackError(f"the bank's latents have width {width}, the pack's {latent}", "re-run mclip export")
    return bank


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., D) at unit length."""
    result: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
    return result


def _side(text: str) -> str:
    """ "left" or "right" when a text speaks of one and not of the other, else ""."""
    sides = {word.lower() for word in _SIDE.findall(text)}
    return sides.pop() if len(sides) == 1 else ""


def _slerp(low: NDArray[np.float32], high: NDArray[np.float32], fraction: float) -> NDArray[np.float32]:
    """The vector (D,) a fraction of the way along the arc from `low` to `high`, its length changing evenly."""
    angle = np.arccos(np.clip(unit(low) @ unit(high), -1.0, 1.0))
    if angle < 1e-6:
        return low
    length = (1.0 - fraction) * np.linalg.norm(low) + fraction * np.linalg.norm(high)
    arc = (np.sin((1.0 - fraction) * angle) * unit(low) + np.sin(fraction * angle) * unit(high)) / np.sin(angle)
    return np.asarray(length * arc, np.float32)


def _to_int8(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Vectors (N, D) as int8 and the scales (N,) that undo it."""
    scale = np.maximum(np.abs(vectors).max(axis=1), 1e-12) / 127.0
    return np.rint(vectors / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def _to_lines(values: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(" ".join(value.splitlines()) for value in values).encode(), np.uint8)


def _from_lines(content: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(content.tobytes().decode().split("\n"))
