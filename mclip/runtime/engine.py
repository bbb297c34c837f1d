"""An opened pack: texts and motions to latents, latents to motions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mclip.errors import PackError, UsageError
from mclip.motion import Motion
from mclip.pack import TOKEN_TABLE, TOKENIZER, WORDS, Ahead, Manifest, Pack, find_pack, open_pack
from mclip.runtime.cleaning import clean
from mclip.runtime.encoded import Encoded, starts
from mclip.runtime.prior import Prior, load_bank
from mclip.runtime.representation import COLUMNS, ROWS, Representation, motion_to_features, representation
from mclip.runtime.session import Session
from mclip.runtime.tokenizer_file import read_tokenizer
from mclip.runtime.tokens import TokenTable, open_table
from mclip.runtime.wordpiece import WordPiece, open_wordpiece

# Rows run at once: larger batches fall out of the processor's cache and are slower.
CHUNK = 8
# What features come to at most: rotations are about 1, and an hour's walk is kilometres, but of a clip of seconds.
MAX_FEATURE = 400.0
# Of a picture's sides, pixels; CLIP's largest model has 336.
MAX_IMAGE_SIZE = 1024


class Engine:
    """Runs a pack. Graphs are read, checked and started when they are first used.

    quick: on a CPU, start in half the time and run a tenth to a third slower, which is the better for a few rows.
    No result is given before every byte of the pack is known to be what its manifest says.
    Methods take any number of rows; what graphs make of a row does not depend on the others, to the last bit.
    Quick engines differ from others in the last bits.
    """

    def __init__(self, pack: Pack, device: str = "auto", *, quick: bool = False) -> None:
        self.pack, self._device, self._quick = pack, device, quick
        self._sessions: dict[str, Session] = {}
        self._starting: dict[str, Thread] = {}
        self._verified = False

    @classmethod
    def open(
        cls, pack: str | Path | None = None, device: str = "auto", *, quick: bool = False, sha256: str | None = None
    ) -> Engine:
        """Open a pack by name or directory; None is the mini pack, or what MCLIP_PACK names.

        sha256: the identity the pack has to have, see mclip.pack. Raises PackError, UsageError.
        """
        return cls(open_pack(find_pack(pack), sha256), device, quick=quick)

    def start(self, *graphs: str) -> None:
        """Begin to start graphs that are going to be used, side by side. What is wrong with one is said at its use."""
        for name in graphs:
            if name in self.manifest.graphs and name not in self._sessions and name not in self._starting:
                self._starting[name] = Thread(target=self._start_quietly, args=(name,))
                self._starting[name].start()

    @property
    def manifest(self) -> Manifest:
        """What the pack says about itself."""
        return self.pack.manifest

    @property
    def device(self) -> str:
        """What the graphs used so far run on: "cuda" if all do, else "cpu"."""
        return "cuda" if self._sessions and all(s.device == "cuda" for s in self._sessions.values()) else "cpu"

    @property
    def kind(self) -> Representation:
        """How the pack writes motions as features."""
        return representation(self.manifest.representation)

    @cached_property
    def prior(self) -> Prior | None:
        """What turns text embeddings into latents; None if the embeddings are decoded as they are."""
        if self.manifest.prior is None:
            return None
        return load_bank(self.pack.read(self.manifest.prior.file), self.manifest.latent)

    def tokenize(self, texts: Sequence[str], *, truncate: bool = False) -> list[list[int]]:
        """Token ids of each text.

        truncate: read as much as the pack can of a text that is longer.
        Raises UsageError for a text that is empty or, without `truncate`, too long; PackError if the pack reads none.
        """
        if self.manifest.max_tokens is None:
            raise PackError(
                f"{self.pack.path}: this pack has no text encoder, it knows motions only",
                f"run mclip export again without --without-text; that needs the weights of {self.manifest.text_space}",
            )
        cleaned = [clean(text, self.manifest.text_cleaning) for text in texts]
        for text, tidy in zip(texts, cleaned, strict=True):
            if not tidy.strip():
                raise UsageError(
                    f"the text {shorten(text)!r} is empty", 'say what the motion should show, such as "a person waves"'
                )
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise UsageError(f"the text {shorten(text)!r} holds half a character", "write it in UTF-8")
        found = [self._plain(text) if self._plain else None for text in cleaned]
        if rest := [text for text, ids in zip(cleaned, found, strict=True) if ids is None]:
            tokenizer = self._tokenizer
            try:
                others = iter(tokenizer.encode_batch(rest))
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # as below
                hint = "copy the pack again, or re-run mclip export"
                raise PackError(f"{self.pack.path}: tokenizer.json cannot read this text ({error})", hint) from None
            found = [next(others).ids if ids is None else ids for ids in found]
        tokens = [ids for ids in found if ids is not None]
        limit = self.manifest.max_tokens
        for text, ids in zip(texts, tokens, strict=True):
            if len(ids) > limit and not truncate:
                raise UsageError(
                    f"the text {shorten(text)!r} has {len(ids)} tokens, "
                    f"the pack {self.manifest.name} reads at most {limit}",
                    "say it in one or two sentences, or let mclip generate --truncate cut it",
                )
        # The last token says that the text ends.
        return [ids if len(ids) <= limit else [*ids[: limit - 1], ids[-1]] for ids in tokens]

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (N, D) of texts, of unit length if latents are. Raises UsageError as `tokenize`."""
        return self.encode_tokens(self.tokenize(texts))

    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Embeddings (N, D) of token ids from `tokenize`."""
        result = np.empty((len(tokens), self.manifest.latent), np.float32)
        order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))  # equal lengths need no padding
        for chunk in _chunks(order):
            length = len(tokens[chunk[-1]])
            ids = np.zeros((len(chunk), length), np.int64)
            mask = np.zeros((len(chunk), length), np.int64)
            for row, index in enumerate(chunk):
                ids[row, : len(tokens[index])] = tokens[index]
                mask[row, : len(tokens[index])] = 1
            feeds: dict[str, NDArray[Any]] = {"ids": ids, "mask": mask}
            if self._table is not None:
                feeds[WORDS] = self._table[ids]
            inputs = [feeds[spec.name] for spec in self.manifest.graphs["text_encoder"].inputs]
            result[chunk] = self._run("text_encoder", (len(chunk), self.manifest.latent), *inputs)
        return result

    @property
    def image_size(self) -> int:
        """Pixels on each side of the pictures that the pack can read. Raises PackError if it reads none."""
        graph = self.manifest.graphs.get("image_encoder")
        if graph is None:
            raise PackError(
                f"the pack {self.manifest.name} has no image tower, its text space is {self.manifest.text_space}",
                "mclip export --image-tower makes one that has, from a model trained in clip-vit-b32",
            )
        shape = graph.inputs[0].axes
        if len(shape) != 4 or not isinstance(shape[1], int) or not 0 < shape[1] <= MAX_IMAGE_SIZE:
            raise PackError(f"{self.pack.path}: its image encoder takes {shape}", "re-run mclip export")
        return shape[1]

    def encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (N, D) of pictures (N, S, S, 3), RGB, S being `image_size`; as long as those of texts."""
        result = np.empty((len(pixels), self.manifest.latent), np.float32)
        for chunk in _chunks(range(len(pixels))):
            result[chunk] = self._run("image_encoder", (len(chunk), self.manifest.latent), pixels[chunk])
        return result

    def locate(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (N, D) that motions' latents are compared with to tell how well they show what texts say.

        Text embeddings and latents lie in different parts of their space: where there is a prior, the vector is halfway
        between the embedding and the latents the prior expects. Raises UsageError as `tokenize`.
        """
        embeddings = self.encode_text(texts)
        if self.prior is None:
            return embeddings
        middle = embeddings + self.prior.expect(texts, embeddings)
        result: NDArray[np.float32] = middle / np.linalg.norm(middle, axis=1, keepdims=True)
        return result

    def encode_motion(self, features: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Latents (N, D) of features (N, T, 25, 6), mask (N, T) true where there are frames."""
        result = np.empty((len(features), self.manifest.latent), np.float32)
        for chunk in _chunks(range(len(features))):
            shape = (len(chunk), self.manifest.latent)
            result[chunk] = self._run("motion_encoder", shape, features[chunk], mask[chunk])
        return result

    def encode_motions(self, motions: Sequence[Motion], hop: int | None = None) -> list[Encoded]:
        """The windows of motions of any length and frame rate, with their latents.

        hop: frames between the starts of windows, at the pack's rate; half a window if None. A motion with fewer frames
        than the manifest's `frames.min` is encoded too, but no latent of training was made of so few.
        """
        length, fps = self.manifest.frames.default, self.manifest.fps
        resampled = [motion.resample(fps) for motion in motions]
        groups = [starts(len(motion), length, hop or max(1, length // 2)) for motion in resampled]
        cuts = [
            (motion, start, min(start + length, len(motion)))
            for motion, group in zip(resampled, groups, strict=True)
            for start in group.tolist()
        ]
        latents = np.empty((len(cuts), self.manifest.latent), np.float32)
        # Windows of one length need no padding, and a few at a time little memory.
        for chunk in _chunks(sorted(range(len(cuts)), key=lambda row: cuts[row][2] - cuts[row][1])):
            rows = [
                motion_to_features(motion.slice(start, stop), self.kind)
                for motion, start, stop in map(cuts.__getitem__, chunk)
            ]
            features = np.zeros((len(rows), len(rows[-1]), ROWS, COLUMNS), np.float32)
            mask = np.zeros(features.shape[:2], np.bool_)
            for place, row in enumerate(rows):
                features[place, : len(row)], mask[place, : len(row)] = row, True
            latents[chunk] = self.encode_motion(features, mask)
        stops = np.cumsum([len(group) for group in groups])
        return [
            Encoded(group, np.minimum(group + length, len(motion)), latents[stop - len(group) : stop], fps)
            for motion, group, stop in zip(resampled, groups, stops.tolist(), strict=True)
        ]

    def decode(self, latents: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Features (N, T, 25, 6) of latents (N, D), at the frames where mask (N, T) is true."""
        result = np.empty((*mask.shape, ROWS, COLUMNS), np.float32)
        for chunk in _chunks(range(len(latents))):
            shape = (len(chunk), mask.shape[1], ROWS, COLUMNS)
            result[chunk] = self._run("motion_decoder", shape, latents[chunk], mask[chunk])
        if (largest := float(np.abs(result).max(initial=0.0))) > MAX_FEATURE:
            raise PackError(
                f"{self.pack.path / 'motion_decoder'}.onnx: gives {largest:.3g}, which is no motion",
                "re-run mclip export",
            )
        return result

    def decode_shown(self, latents: NDArray[np.float32], frames: Sequence[int]) -> list[NDArray[np.float32]]:
        """What is shown of latents (N, D), each of so many frames T: features (T, 25, 6), without tremor."""
        mask = np.arange(max(frames, default=0)) < np.array(frames)[:, None]  # (N, T)
        return [self.kind.steady(row[:count]) for row, count in zip(self.decode(latents, mask), frames, strict=True)]

    @cached_property
    def _table(self) -> TokenTable | None:
        return open_table(self.pack) if TOKEN_TABLE in self.manifest.files else None

    @cached_property
    def _tokenizer_table(self) -> dict[str, Any]:
        return read_tokenizer(self.pack.read(TOKENIZER), str(self.pack.path / TOKENIZER))

    @cached_property
    def _plain(self) -> WordPiece | None:
        return open_wordpiece(self._tokenizer_table)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(json.dumps(self._tokenizer_table))
        except (PackError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            # The Rust library raises plain Exception, and where it panics not even that.
            raise PackError(
                f"{self.pack.path}: tokenizer.json cannot be read ({error})", "re-run mclip export"
            ) from None
        tokenizer.no_truncation()  # too long is an error, not a surprise
        tokenizer.no_padding()
        return tokenizer

    def _run(self, name: str, shape: tuple[int, ...], *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """What a graph makes of its inputs, which has to have this shape."""
        # Weights that are not repacked are multiplied with one row in another order than with several.
        alone = self._quick and shape[0] == 1
        session = self._graph(name)
        with self._whole():
            result = session.run(*(np.repeat(item, 2, axis=0) if alone else item for item in inputs))
        if alone:
            result = result[:1]
        if result.shape != shape:
            raise PackError(
                f"{self.pack.path / name}.onnx: gives {result.shape}, not the manifest's {shape}", "re-run mclip export"
            )
        return result

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """While the first graph runs, hash what the pack holds besides; raises PackError if any of it is not right."""
        if self._verified:
            yield
            return
        rest = Ahead(self.pack.verify_rest)
        try:
            yield
        finally:
            rest.join()
        rest.result()
        self._verified = True

    def _graph(self, name: str) -> Session:
        if thread := self._starting.pop(name, None):
            thread.join()
        if name not in self._sessions:
            self._sessions[name] = self._session(name)
        return self._sessions[name]

    def _start_quietly(self, name: str) -> None:
        # Whatever it is, it is raised where the graph is used.
        with contextlib.suppress(Exception):
            self._sessions[name] = self._session(name)

    def _session(self, name: str) -> Session:
        path = self.pack.path / f"{name}.onnx"
        session = Session(self.pack.read_graph(name), str(path), self._device, optimise=not self._quick)
        session.check(self.manifest.graphs[name])
        return session


def shorten(text: str, limit: int = 40) -> str:
    """A text as it fits into a message."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _chunks(rows: Sequence[int]) -> list[list[int]]:
    return [list(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]
