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
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mclip.errors import PackError
from mclip.files import atomic_path

# A hundred thousand entries of width 1024 with their captions; the mini pack's bank is 100 times smaller.
MAX_BANK_BYTES = 500_000_000
# Between "action" and "style" in a label.
STYLE_SEPARATOR = "/"
# Text encoders hardly tell left from right; a label that speaks of the other side is this much farther away.
_WRONG_SIDE = 0.2
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """What a prior found for a text.

    latent   (D,) float32
    frames   how many frames of it come from the training motion
    score    how well text and caption agree: their cosine, 1 for the same words
    caption  the nearest caption
    label    the action class it belongs to
    name     the training motion the latent is of
    """

    latent: NDArray[np.float32]
    frames: int
    score: float
    caption: str
    label: str
    name: str


class Prior(Protocol):
    """Turns texts into latents."""

    def match(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> list[Match]:
        """One match for each of the texts, whose unit embeddings are (B, D); the same input gives the same matches."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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
        """The best entry for each text, whose unit embeddings are (B, D); of equals, the first.

        First the label: by its nearest caption and by all its captions together, so that one odd wording among many
        does not decide. Then the entry of that label whose latent is nearest to the text.
        """
        to_captions = embeddings @ self.captions.T  # (B, K)
        by_label = to_captions[:, self.ids]  # (B, E)
        nearest = np.maximum.reduceat(by_label, self.offsets[:-1], axis=1)  # (B, M)
        mean = np.add.reduceat(by_label, self.offsets[:-1], axis=1) / np.diff(self.offsets)
        sides = [_side(" ".join(self.texts[row] for row in self._captions_of(i))) for i in range(len(self.labels))]
        wrong = np.array(
            [[_WRONG_SIDE * ({_side(text), side} == {"left", "right"}) for side in sides] for text in texts]
        )
        best = np.argmax(0.5 * (nearest + mean) - wrong, axis=1)
        to_latents = embeddings @ self.latents.T  # (B, N)
        return [self._match(int(label), to_captions[row], to_latents[row]) for row, label in enumerate(best)]

    def _captions_of(self, label: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[label] : self.offsets[label + 1]]

    def _match(self, label: int, to_captions: NDArray[np.float32], to_latents: NDArray[np.float32]) -> Match:
        captions, entries = self._captions_of(label), np.flatnonzero(self.label == label)
        caption = int(captions[to_captions[captions].argmax()])
        entry = int(entries[to_latents[entries].argmax()])
        return Match(
            latent=self.latents[entry],
            frames=int(self.frames[entry]),
            score=min(1.0, float(to_captions[caption])),
            caption=self.texts[caption],
            label=self.labels[label],
            name=self.names[entry],
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
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BANK_BYTES:
                raise PackError(f"the bank unpacks to more than {MAX_BANK_BYTES} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in _LAYOUT}
        for name, (dtype, ndim) in _LAYOUT.items():
            if arrays[name].dtype != dtype or arrays[name].ndim != ndim:
                raise PackError(f"the bank's {name} is {arrays[name].dtype} {arrays[name].shape}")
        bank = Bank(
            latents=arrays["latents"] * arrays["latent_scale"][:, None],
            frames=arrays["frames"],
            names=_from_lines(arrays["names"]),
            label=arrays["label"],
            labels=_from_lines(arrays["labels"]),
            captions=arrays["captions"] * arrays["caption_scale"][:, None],
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
        raise PackError(f"the bank's latents have width {bank.latents.shape[1]}, the pack's {latent}")
    return bank


def _side(text: str) -> str:
    """ "left" or "right" when a text speaks of one and not of the other, else ""."""
    sides = {word.lower() for word in _SIDE.findall(text)}
    return sides.pop() if len(sides) == 1 else ""


def _to_int8(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Vectors (N, D) as int8 and the scales (N,) that undo it."""
    scale = np.maximum(np.abs(vectors).max(axis=1), 1e-12) / 127.0
    return np.rint(vectors / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def _to_lines(values: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(" ".join(value.splitlines()) for value in values).encode(), np.uint8)


def _from_lines(content: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(content.tobytes().decode().split("\n"))
