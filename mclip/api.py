"""mclip in Python: an opened pack, and what the commands do with it, on arrays and motions instead of files.

    import mclip

    engine = mclip.open_pack()
    motion = engine.generate("couch")
    motion.pose                                # (T, 24, 3) axis-angle, radians
    engine.edit(motion, add="old", strength=0.5).show()
    mclip.save("sit.glb", motion)

Errors are those of mclip.errors; nothing is printed. In a notebook a motion's `show()` is a page that plays it.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mclip import formats
from mclip.errors import UsageError
from mclip.formats.style import Style
from mclip.motion import Motion
from mclip.runtime import edit as editing
from mclip.runtime import interpolate as interpolating
from mclip.runtime import search as searching
from mclip.runtime import tasks
from mclip.runtime.bases import Source, to_base
from mclip.runtime.classify import Answer, Classifier
from mclip.runtime.engine import Engine as Runtime
from mclip.runtime.labels import check_labels, read_labels
from mclip.runtime.residual import joint_weights
from mclip.runtime.search import Hit, Library
from mclip.view import files

# Pixels of a page's frame in a notebook.
_PAGE_HEIGHT = 520


def open_pack(pack: str | Path | None = None, *, device: str = "auto", sha256: str | None = None) -> Engine:
    """Open a pack by name or folder; None is the mini pack, or what MCLIP_PACK names. device: "auto", "cpu", "cuda".

    sha256: what the pack has to be, as `mclip doctor PACK` prints it and generated motions' `origin` has it.
    Raises PackError, UsageError or DeviceError.
    """
    return Engine(Runtime.open(pack, device, sha256=sha256))


def load(path: str | Path, *, rig: str | Path | None = None, take: str | None = None) -> Motion:
    """Read a motion: .npz, .bvh, .amc or .glb. rig: a joint table (TOML); take: which animation of a .glb.

    Raises MotionError or UsageError.
    """
    return formats.load(Path(path), rig=None if rig is None else Path(rig), take=take)


def save(
    path: str | Path,
    motion: Motion,
    *,
    up: str | None = None,
    scale: float | None = None,
    layout: str | None = None,
) -> None:
    """Write a motion: .npz, .bvh, .glb, .csv or .npy, replacing what is there. Options: mclip.formats.style.Style.

    Raises UsageError for what cannot be written so.
    """
    files.save(Path(path), motion, Style(up=up, scale=scale, layout=layout))


class Engine:
    """An opened pack. Where a method takes a motion or a text, a text stands for the motion `generate` makes of it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._classifier: Classifier | None = None

    @property
    def name(self) -> str:
        """The pack's name."""
        return self.runtime.manifest.name

    @property
    def fps(self) -> float:
        """Frames per second of the motions that the pack makes."""
        return self.runtime.manifest.fps

    def generate(self, text: str, *, seconds: float | None = None, fps: float | None = None) -> Motion:
        """The motion for a text. `motion.origin` says how near the pack's training came to it.

        seconds: its length, None is the pack's own; fps: its rate, None is the pack's.
        Raises UsageError for texts and lengths the pack cannot take.
        """
        return next(tasks.generate(self.runtime, [tasks.Prompt(text, seconds)], fps=fps)).motion

    def variations(
        self, text: str, count: int, *, seconds: float | None = None, fps: float | None = None, seed: int = 0
    ) -> list[Motion]:
        """Different motions for a text, the best match first; the same seed makes the same ones. Raises UsageError."""
        made = tasks.generate(self.runtime, [tasks.Prompt(text, seconds)], fps=fps, variations=count, seed=seed)
        return [item.motion for item in made]

    def edit(
        self,
        motion: Motion | str,
        *,
        add: Motion | str | Sequence[Motion | str] = (),
        remove: Motion | str | Sequence[Motion | str] = (),
        strength: float = 1.0,
        only: str | None = None,
        keep_root: bool = False,
    ) -> Motion:
        """A motion with something added to it and taken away, as `mclip edit` does. Raises UsageError, MotionError."""
        sides = ((_sources(add), 1), (_sources(remove), -1))
        terms = [editing.Term(source, sign) for sources, sign in sides for source in sources]
        if not terms:
            raise UsageError("nothing to add or to take away", 'add="angry"')
        weights = joint_weights(only)
        strength = editing.checked_strength(strength)
        what = editing.prepare(self.runtime, to_base(self.runtime, _source(motion)), terms, None)
        return editing.edit(self.runtime, what, strength, weights, keep_root=keep_root).motion

    def interpolate(
        self,
        *ends: Motion | str,
        steps: int = 5,
        blend: bool = False,
        path: str = "slerp",
        easing: str = "linear",
        seconds: float | None = None,
    ) -> list[Motion]:
        """Motions between two or more, the ends included; with `blend` one motion that moves along the path.

        path: "slerp" or "linear"; easing: "linear" or "smooth". Raises UsageError, MotionError.
        """
        interpolating.check_options(len(ends), steps, path, easing)
        found = [interpolating.to_end(self.runtime, _source(end)) for end in ends]
        made = interpolating.steps_between(self.runtime, found, steps, path=path, easing=easing, seconds=seconds)
        return [step.motion for step in ([interpolating.blend(made)] if blend else made)]

    def classify(self, motion: Motion, labels: Sequence[str] | None = None, *, threshold: float = 0.0) -> Answer:
        """What a motion shows: labels with their probabilities, best first, and a timeline.

        labels: two or more, None for BABEL's 60 classes; threshold: what scores lower is "unknown".
        Raises MotionError for motions too short for the pack, UsageError for labels it cannot read.
        """
        names = read_labels(None) if labels is None else check_labels(labels)
        if self._classifier is None or (self._classifier.labels, self._classifier.threshold) != (
            tuple(names),
            threshold,
        ):
            # Kept for the next motion: labels are read once.
            self._classifier = Classifier(self.runtime, names, threshold)
        return self._classifier.classify(motion)

    def library(self, *paths: str | Path) -> Library:
        """Motion files and folders, ready for `search`; an index is kept beside each folder. Raises DataError."""
        return searching.open_library(self.runtime, [Path(path) for path in paths])[0]

    def search(
        self, query: str | Motion, library: Library | str | Path, *, top: int = 10, dedupe: bool = False
    ) -> list[Hit]:
        """The motions of a library nearest to a text or a motion, best first. Raises UsageError, MotionError.

        library: what `library` gives, kept for the next search; or a folder or file, which is opened for this one.
        """
        found = library if isinstance(library, Library) else self.library(library)
        if isinstance(query, str):
            vectors = searching.text_query(self.runtime, query)
        else:
            vectors = searching.motion_query(self.runtime, query)
        return found.search(vectors, top, dedupe=dedupe)

    def encode(self, what: str | Motion) -> NDArray[np.float32]:
        """The embedding (D,) of a text, or the latents (W, D) of a motion's windows, which overlap by half."""
        if isinstance(what, str):
            embedding: NDArray[np.float32] = self.runtime.encode_text([what])[0]
            return embedding
        return self.runtime.encode_motions([what])[0].latents

    def decode(self, latents: NDArray[np.float32], *, seconds: float | None = None) -> list[Motion]:
        """A motion for each of the latents (N, D), or for one (D,). Raises UsageError for other shapes and lengths."""
        rows = np.atleast_2d(np.asarray(latents, np.float32))
        width = self.runtime.manifest.latent
        if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
            raise UsageError(f"latents of shape {np.shape(latents)} are not finite numbers of width {width}")
        frames = tasks.frames_of(self.runtime, seconds) or self.runtime.manifest.frames.default
        return tasks.decode(self.runtime, rows, [frames] * len(rows))

    def __repr__(self) -> str:
        return f"<mclip.Engine of the pack {self.name!r}, {self.fps:g} fps>"


class Page:
    """A page that plays motions: shown by notebooks, and saved by `save`."""

    def __init__(self, content: str) -> None:
        self.html = content

    def save(self, path: str | Path) -> None:
        """Write the page to a file that any browser opens."""
        from mclip.files import write_text

        write_text(Path(path), self.html)

    def _repr_html_(self) -> str:
        # In a frame of its own, so that neither the notebook's style nor the page's reaches the other.
        page = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:{_PAGE_HEIGHT}px;border:0" allowfullscreen></iframe>'


def show(*motions: Motion, names: Sequence[str] = ()) -> Page:
    """A page that plays motions in step, side by side. names: of the motions, to tell them apart.

    Raises UsageError for none, too many, or another number of names.
    """
    from mclip.view.page import Shown, motion_page

    if names and len(names) != len(motions):
        raise UsageError(f"{len(names)} names for {len(motions)} motions")
    named = names or [_name(motion, place) for place, motion in enumerate(motions, 1)]
    return Page(motion_page([Shown(name, motion) for name, motion in zip(named, motions, strict=True)]))


def _source(what: Motion | str) -> Source:
    return Source(what, None) if isinstance(what, str) else Source(_name(what, 0), what)


def _sources(terms: Motion | str | Sequence[Motion | str]) -> list[Source]:
    return [_source(term) for term in ([terms] if isinstance(terms, (Motion, str)) else terms)]


def _name(motion: Motion, place: int) -> str:
    return str(motion.origin.get("prompt") or f"motion {place}".removesuffix(" 0"))
