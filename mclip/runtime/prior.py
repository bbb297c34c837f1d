"""From text embeddings to motion latents.

Text and latents share a space but fill different parts of it: the decoder does best on latents that motions really
have. `Bank` answers a text with the latent of a training motion of the label that the text most probably speaks of.

bank.npz (no pickles, uncompressed; N entries, M labels, K captions, D the latent width):

    latents        (N, D) int8     latents of windows, of each label the most typical first, times
    latent_scale   (N,)   float32  one number each; rounding turns a vector by less than a degree
    frames         (N,)   int32    frames in each window
    names          uint8           UTF-8, one line per entry: "path#start-stop", frames of the source motion
    label          (N,)   int32    index into labels
    labels         uint8           UTF-8, one line per label
    captions       (K, D) int8     unit embeddings of captions that show how the labels are spoken of, times
    caption_scale  (K,)   float32  one number each
    texts          uint8           UTF-8, one line per caption
    offsets        (M+1,) int32    label i has the captions ids[offsets[i]:offsets[i+1]], at least one
    ids            (E,)   int32    indices into captions
    centres        (P, D) float16  the mean latent of all of a label's windows that come from one folder
    centre_label   (P,)   int32    index into labels, each at least once
    centre_source  (P,)   int32    one number for each folder of recordings: who was recorded, and how
    said           (M, D) float16  the mean unit embedding of all captions of each label, also of those not kept
    action_weights (A, D+1) float32  }  what tells the actions and the styles of the labels from a text's embedding, see
    style_weights  (S, D+1) float32  }  mclip.runtime.reading
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mclip.errors import PackError
from mclip.files import atomic_path
from mclip.npz import check_directory
from mclip.runtime.reading import LARGEST, Reading

# A hundred thousand entries of width 1024 with their captions; the mini pack's bank is 100 times smaller.
MAX_BANK_BYTES = 500_000_000
# Of the .npy within it.
_MAX_HEADER = 1000
# A text speaks of a style if that is so many times as likely, as a logarithm, as that it speaks of none: true of 83 %
# of unseen wordings of styles, and of 2 % of phrases without one.
_STYLED = 1.0
# How much a style counts, at most, where the action is in doubt: as a logarithm.
_STYLE_COUNTS = 1.0
# Text encoders hardly tell left from right; a label that speaks of the other side is this much less likely, likewise.
_WRONG_SIDE = 6.0
# CLIP's own scale of cosines, at which it compares pictures with texts.
_PICTURE = 100.0
# When variations are drawn, an entry of a label whose latent is farther from the text by this much, in cosine, is e
# times less likely. They are drawn from the best label and from others this much less likely at most, as a logarithm.
_SPREAD = 0.05
_AS_GOOD = 1.0
# Two latents this near to each other, in cosine, are the same motion to the eye.
_SAME = 0.999
# How far a blend of two entries goes from the one towards the other; beyond the middle it would be the other's.
_BLEND = (0.2, 0.5)
_NEIGHBOURS = 8
_SIDE = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class Match(NamedTuple):
    """What a prior found for a text.

    latent   (D,) float32
    frames   how many frames of it come from the training motion
    score    how well text and caption agree: their cosine, 1 for the same words
    caption  the nearest of the label's captions
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


class Small:
    """Vectors (N, D) kept as they are stored: a prompt needs each once, and fp32 takes four times the memory.

    values  (N, D) int8
    scale   (N,) float32
    """

    def __init__(self, values: NDArray[np.int8], scale: NDArray[np.float32]) -> None:
        self.values, self.scale, self.shape = values, scale, values.shape
        if scale.shape != values.shape[:1]:
            raise PackError(f"{len(values)} vectors have {scale.shape} scales", "re-run mclip export")

    def __len__(self) -> int:
        """N."""
        return len(self.values)

    def __getitem__(self, rows: NDArray[np.integer] | slice) -> NDArray[np.float32]:
        """Some of them."""
        result: NDArray[np.float32] = self.values[rows] * self.scale[rows, None]
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """The latents (N, D) and caption embeddings (K, D) of training motions; other fields as in the module docstring."""

    latents: NDArray[np.float32]
    frames: NDArray[np.int32]
    names: tuple[str, ...]
    label: NDArray[np.int32]
    labels: tuple[str, ...]
    captions: NDArray[np.float32] | Small
    texts: tuple[str, ...]
    offsets: NDArray[np.int32]
    ids: NDArray[np.int32]
    centres: NDArray[np.float32]
    centre_label: NDArray[np.int32]
    centre_source: NDArray[np.int32]
    said: NDArray[np.float32]
    reading: Reading

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
            (self.centre_label.shape == self.centre_source.shape == self.centres.shape[:1], "centres"),
            (self.centres.shape[1:] == self.latents.shape[1:], "centres"),
            (set(self.centre_label.tolist()) == set(range(labels)), "centres"),
            (self.said.shape == (labels, *self.captions.shape[1:]), "said"),
            (self.reading.fits(self.labels, self.captions.shape[1]), "reading"),
            # Neither infinite nor so large that products are.
            (
                all(
                    (np.abs(values) <= LARGEST).all()
                    for values in (self.latents, _numbers(self.captions), self.centres, self.said)
                ),
                "values",
            ),
        ):
            if not valid:
                raise PackError(f"the bank's {what} do not fit together", "re-run mclip export")

    def __len__(self) -> int:
        """The number of entries N."""
        return len(self.latents)

    def match(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> list[Match]:
        """The best entry for each text, whose embeddings are (B, D); of equals, the first.

        That is the first of the label that is meant: of the action that the text most probably speaks of, in the style
        it speaks of. The first is the most typical one, see mclip.export.bank; which latent is nearest to the text says
        nothing beyond the label.
        """
        embeddings = unit(embeddings)
        best = self._agreement(texts, embeddings).argmax(axis=1)
        return [self._match(int(label), embedding) for label, embedding in zip(best, embeddings, strict=True)]

    def vary(self, text: str, embedding: NDArray[np.float32], count: int, seed: int) -> list[Match]:
        """The best entry, others of its label and of labels that are about as probable, then blends of two.

        Entries are drawn one by one with a probability that grows with the nearness of text and latent and with the
        distance from those already drawn. When none that differs is left, one of them is moved towards another, or
        towards a near entry of any label if it is the only one.
        """
        if count == 1:
            return self.match([text], embedding[None])  # numpy.random takes long to load
        embedding = unit(embedding)
        to_latents = self.latents @ embedding
        agreement = self._agreement([text], embedding[None])[0]  # (M,)
        best = self._match(int(agreement.argmax()), embedding)
        entries = np.flatnonzero(agreement[self.label] >= agreement.max() - _AS_GOOD)
        wanted = np.zeros(len(entries))
        for label in set(self.label[entries].tolist()):
            rows = self.label[entries] == label
            near = np.exp((to_latents[entries[rows]] - to_latents[entries[rows]].max()) / _SPREAD)
            wanted[rows] = np.exp(agreement[label] - agreement.max()) * near / near.sum()
        random = np.random.default_rng([seed, zlib.crc32(text.encode())])
        directions = unit(self.latents[entries])  # (n, D)
        chosen = [int(np.flatnonzero(entries == best.entry)[0])]
        while len(chosen) < count:
            nearest = (directions @ directions[chosen].T).max(axis=1)
            weight = np.where(nearest < _SAME, wanted * (1.0 - nearest), 0.0)
            if not weight.sum() > 0.0:
                break
            chosen.append(int(random.choice(len(entries), p=weight / weight.sum())))
        matches = [self._entry(int(entries[row]), embedding) for row in chosen]
        return matches + [self._blend(matches, random) for _ in range(count - len(matches))]

    def expect(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean latents of all labels, weighted by how probably the texts speak of them."""
        agreement = self._agreement(texts, unit(embeddings))  # (B, M)
        weight = np.exp(agreement - agreement.max(axis=1, keepdims=True))
        return unit((weight @ self._means).astype(np.float32))

    def _agreement(self, texts: Sequence[str], embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """How probably texts speak of labels (B, M), from unit embeddings (B, D): as a logarithm, up to a constant.

        The action decides, and between labels of about equal actions, or of one action, the style. An empty text stands
        for a picture, which is compared with the captions of each label (Radford et al. 2021, section 3.1.4).
        """
        reading = self.reading
        result = reading.actions(embeddings)[:, reading.action_of]
        styles = reading.styles(embeddings)  # (B, S)
        said = styles[:, 1:].max(axis=1, initial=-np.inf) - styles[:, 0] > _STYLED
        styles[~said, 0] = 0.0
        fits = styles[:, reading.style_of]
        # Beyond its limit a style still tells the labels of one action apart, of which none may fit well.
        result += np.maximum(fits, -_STYLE_COUNTS) + 1e-3 * np.minimum(fits + _STYLE_COUNTS, 0.0)
        for row, text in enumerate(texts):
            if not text:  # a picture: what was learnt from texts does not hold for it
                result[row] = _PICTURE * (self._said @ embeddings[row])
            if spoken := _side(text):
                result[row] -= [_WRONG_SIDE * ({spoken, side} == {"left", "right"}) for side in self._sides]
        return result

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
        return nearest._replace(latent=latent)

    @cached_property
    def _means(self) -> NDArray[np.float32]:
        """The direction of each label's latents (M, D); every label has some."""
        starts = np.cumsum([0, *map(len, self._entries[:-1])])
        return unit(np.add.reduceat(unit(self.latents[np.concatenate(self._entries)]), starts, axis=0))

    @cached_property
    def _said(self) -> NDArray[np.float32]:
        """The directions of each label's captions (M, D)."""
        return unit(self.said)

    @cached_property
    def _entries(self) -> list[NDArray[np.int64]]:
        """The entries of each label, in their order."""
        order = np.argsort(self.label, kind="stable")
        return np.split(order, np.searchsorted(self.label[order], np.arange(1, len(self.labels))))

    @cached_property
    def _sides(self) -> list[str]:
        """Which side the captions of each label speak of."""
        words = [_sides(text) for text in self.texts]
        each = (set[str]().union(*(words[row] for row in self._captions_of(i))) for i in range(len(self.labels)))
        return [sides.pop() if len(sides) == 1 else "" for sides in each]

    def _captions_of(self, label: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[label] : self.offsets[label + 1]]

    def _match(self, label: int, embedding: NDArray[np.float32]) -> Match:
        return self._entry(int(self._entries[label][0]), embedding)

    def _entry(self, entry: int, embedding: NDArray[np.float32]) -> Match:
        label = int(self.label[entry])
        captions = self._captions_of(label)
        # Computed anew: a product with many rows differs in its last bits from a product with one.
        score = self.captions[captions] @ embedding
        caption = int(captions[score.argmax()])
        return Match(
            latent=self.latents[entry],
            frames=int(self.frames[entry]),
            score=min(1.0, float(score.max())),
            caption=self.texts[caption],
            label=self.labels[label],
            name=self.names[entry],
            entry=entry,
        )

    def save(self, path: Path) -> None:
        """Write bank.npz (module docstring), atomically."""
        latents, latent_scale = _to_int8(self.latents)
        stored = self.captions
        captions, caption_scale = (stored.values, stored.scale) if isinstance(stored, Small) else _to_int8(stored)
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
                centres=self.centres.astype(np.float16),
                centre_label=self.centre_label,
                centre_source=self.centre_source,
                said=self.said.astype(np.float16),
                action_weights=self.reading.action_weights,
                style_weights=self.reading.style_weights,
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
    "centres": (np.float16, 2),
    "centre_label": (np.int32, 1),
    "centre_source": (np.int32, 1),
    "said": (np.float16, 2),
    "action_weights": (np.float32, 2),
    "style_weights": (np.float32, 2),
}


def load_bank(content: bytes, latent: int) -> Bank:
    """Read bank.npz for latents of width `latent`. Raises PackError for anything else."""
    try:
        check_directory(io.BytesIO(content))
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BANK_BYTES:
                raise PackError(f"the bank unpacks to more than {MAX_BANK_BYTES} bytes")
            arrays = {name: _array(content, archive.getinfo(f"{name}.npy")) for name in _LAYOUT}
        for name, (dtype, ndim) in _LAYOUT.items():
            if arrays[name].dtype != dtype or arrays[name].ndim != ndim:
                raise PackError(f"the bank's {name} is {arrays[name].dtype} {arrays[name].shape}")
        labels = _from_lines(arrays["labels"], len(arrays["offsets"]) - 1)
        # What is infinite is refused as that.
        with np.errstate(over="ignore", invalid="ignore"):
            latents = arrays["latents"] * arrays["latent_scale"][:, None]
        bank = Bank(
            latents=latents,
            frames=arrays["frames"],
            names=_from_lines(arrays["names"], len(latents)),
            label=arrays["label"],
            labels=labels,
            captions=Small(arrays["captions"], arrays["caption_scale"]),
            texts=_from_lines(arrays["texts"], len(arrays["captions"])),
            offsets=arrays["offsets"],
            ids=arrays["ids"],
            centres=arrays["centres"].astype(np.float32),
            centre_label=arrays["centre_label"],
            centre_source=arrays["centre_source"],
            said=arrays["said"].astype(np.float32),
            reading=Reading(labels, arrays["action_weights"], arrays["style_weights"]),
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


def _array(content: bytes, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """An array of an .npz as it lies in memory: the bank's content is known to be whole, and need not be copied."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise ValueError(f"{entry.filename} is compressed")
    lengths = struct.unpack_from("<HH", content, entry.header_offset + 26)  # of its name and of what follows that
    start = entry.header_offset + 30 + sum(lengths)
    file = io.BytesIO(content[start : start + min(entry.file_size, _MAX_HEADER)])
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError(f"{entry.filename} is of a newer format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran or math.prod(shape) * dtype.itemsize + file.tell() != entry.file_size:
        raise ValueError(f"{entry.filename} is cut short or turned")
    return np.frombuffer(content, dtype, math.prod(shape), start + file.tell()).reshape(shape)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., D) at unit length."""
    result: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
    return result


def _numbers(vectors: NDArray[np.float32] | Small) -> NDArray[np.float32]:
    """What of the vectors may be no number."""
    return vectors.scale if isinstance(vectors, Small) else vectors


def _side(text: str) -> str:
    """ "left" or "right" when a text speaks of one and not of the other, else ""."""
    sides = _sides(text)
    return sides.pop() if len(sides) == 1 else ""


def _sides(text: str) -> set[str]:
    return {word.lower() for word in _SIDE.findall(text)}


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


def _from_lines(content: NDArray[np.uint8], count: int) -> tuple[str, ...]:
    """So many lines; ValueError for another number, before memory is taken for each."""
    text = content.tobytes()
    if (lines := text.count(b"\n") + 1) != count:
        raise ValueError(f"{lines} lines where {count} belong")
    return tuple(text.decode().split("\n"))
