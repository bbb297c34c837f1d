"""A training run as one complete, typed, strict TOML file.

Every table of the file is a dataclass here and every key a field. Unknown keys, wrong types and values out of range are
errors that name the key. There is no inheritance between recipes: what a file says is what runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mclip.errors import RecipeError, shown
from mclip.files import read_toml
from mclip.names import REPRESENTATIONS

# Far above any model this is meant for; a slip of the keyboard should not fill the memory.
MAX_SIZE = 16_384
# Deeper than any model of motion by far.
MAX_LAYERS = 64

# The name of a recipe becomes that of a folder and of a pack.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

TEXT_SPACES = ("minilm-l6", "clip-vit-b32")
ARCHITECTURES = ("paper", "dct")
CAPTIONS = ("joined", "category")
VERTEX_FORMS = ("all", "gram", "sample")
TRAINING_PRECISIONS = ("fp32", "bf16")

# The weights by what they weigh; their names are those of the terms of the objective.
RECONSTRUCTION_WEIGHTS = ("rotation", "root", "joints", "velocity", "features", "feature_velocity", "vertices")
TEXT_WEIGHTS = ("text", "text_mse", "text_ce")
IMAGE_WEIGHTS = ("image", "image_mse", "image_ce")
WEIGHTS = (*RECONSTRUCTION_WEIGHTS, *TEXT_WEIGHTS, *IMAGE_WEIGHTS, "contrast", "text_decode", "edit")


def _require(condition: bool, key: str, rule: str) -> None:
    if not condition:
        raise RecipeError(f"{key} {rule}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """Which motions are trained on, and how windows are drawn from them."""

    store: str = "motions.h5"
    """the HDF5 file made by `mclip preprocess`; relative to the working directory"""
    representation: str = "smpl24"
    """how a frame is written as numbers, see mclip.runtime.representation"""
    window: int = 60
    """frames in a window at most"""
    min_window: int = 30
    """frames in a window at least; shorter recordings are left out"""
    exclude: tuple[str, ...] = ()
    """sources (top folders of the preprocessed tree) left out"""
    balance: float = 0.5
    """how labels are drawn: 0 every label equally often, 1 as often as it is in the data"""
    mirror: float = 0.5
    """share of windows that are mirrored, with left and right exchanged in their captions"""
    speed: tuple[float, float] = (1.0, 1.0)
    """windows are played at a speed drawn from this range"""
    anchored: float = 0.0
    """share of windows that begin where their span does, at their own speed and not mirrored, as a bank's do"""
    piece: int = 0
    """frames of the pieces that motions are cut into, each giving one window per epoch (mclip.data.pieces);
    0 draws windows from labelled spans, by the fields above"""
    captions: str = "joined"
    """with pieces. joined: a window's captions, with "and" between; category: the name of one of its action classes"""
    classes: int = 0
    """with categories, how many of BABEL's classes count: 60 or 120 are the usual tasks; 0 takes all the store has"""

    def __post_init__(self) -> None:
        _require(self.representation in REPRESENTATIONS, "data.representation", f"must be one of {REPRESENTATIONS}")
        _require(0 < self.min_window <= self.window <= 1000, "data.window", "must be between data.min_window and 1000")
        _require(0 <= self.balance <= 1, "data.balance", "must lie in [0, 1]")
        _require(0 <= self.mirror <= 1, "data.mirror", "must lie in [0, 1]")
        _require(0 <= self.anchored <= 1, "data.anchored", "must lie in [0, 1]")
        _require(0.25 <= self.speed[0] <= self.speed[1] <= 4, "data.speed", "must be a range within [0.25, 4]")
        if self.piece:
            fits = self.window <= self.piece <= MAX_SIZE
            _require(fits, "data.piece", f"must lie between data.window and {MAX_SIZE}")
            _require(self.captions in CAPTIONS, "data.captions", f"must be one of {CAPTIONS}")
            _require(0 <= self.classes <= MAX_SIZE, "data.classes", "must not be negative")
            _require(self.speed == (1, 1) and self.anchored == 0, "data.piece", "allows no data.speed or data.anchored")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The transformer auto-encoder. Latents have the width of the text space."""

    architecture: str = "paper"
    """the transformers of mclip.nn.paper or of mclip.nn.dct, which need far less training"""
    latent: int = 384
    """width of a latent; must be the text space's"""
    width: int = 256
    """width of the transformer"""
    feedforward: int = 1024
    """width of its feed-forward layers"""
    encoder_layers: int = 4
    decoder_layers: int = 4
    heads: int = 4
    dropout: float = 0.1
    patch: int = 1
    """frames per token"""
    normalize: bool = True
    """whether latents have unit length; texts and images are then decoded at unit length too"""
    coefficients: int = 8
    """of the cosine transform over time; dct only"""
    period: int = 60
    """frames it runs over, best those of a window; dct only"""

    def __post_init__(self) -> None:
        _require(self.architecture in ARCHITECTURES, "model.architecture", f"must be one of {ARCHITECTURES}")
        sizes = ("latent", "width", "feedforward", "encoder_layers", "decoder_layers", "heads", "patch", "coefficients")
        for name in (*sizes, "period"):
            _require(0 < getattr(self, name) <= MAX_SIZE, f"model.{name}", f"must lie between 1 and {MAX_SIZE}")
        for name in ("encoder_layers", "decoder_layers"):
            _require(getattr(self, name) <= MAX_LAYERS, f"model.{name}", f"must lie between 1 and {MAX_LAYERS}")
        _require(self.width % self.heads == 0, "model.width", "must be a multiple of model.heads")
        _require(self.width % 2 == 0, "model.width", "must be even")
        _require(0 <= self.dropout < 1, "model.dropout", "must lie in [0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """What the training objective is the weighted sum of; see mclip.nn.losses."""

    rotation: float = 1.0
    """6D rotations, mean squared error"""
    root: float = 1.0
    """root translation, smooth absolute error, metres"""
    joints: float = 1.0
    """joint positions relative to the pelvis, mean squared error, square metres"""
    velocity: float = 1.0
    """joint velocities, mean squared error, square metres per frame squared"""
    text: float = 0.01
    """one minus the cosine of a motion's latent and its caption's embedding"""
    contrast: float = 0.0
    """InfoNCE between latents and captions; captions of one label count as positives"""
    temperature: float = 0.1
    """of the contrast"""
    text_decode: float = 0.0
    """decoding a caption's embedding towards the exemplar of its label"""
    edit: float = 0.0
    """decoding latent + caption of another label - own caption towards the other label's exemplar"""
    features: float = 0.0
    """all numbers of a frame, mean squared error; the original's rc"""
    feature_velocity: float = 0.0
    """their differences from frame to frame, mean squared error; the original's vel"""
    vertices: float = 0.0
    """vertices, turned but not moved by the root, mean squared error, square metres; the original's rcxyz"""
    vertex_form: str = "all"
    """all: every vertex; gram: the same without skinning and without pose correctives; sample: some at random"""
    vertex_sample: int = 512
    """how many they are at each step"""
    body: str = ""
    """the SMPL file (.npz or .pkl) whose vertices they are; the free body's if empty"""
    text_mse: float = 0.0
    """mean squared difference of a motion's latent and its caption's embedding"""
    text_ce: float = 0.0
    """CLIP's cross entropy between the latents and the captions of a batch"""
    image: float = 0.0
    """one minus the cosine of a motion's latent and the embedding of a picture of it"""
    image_mse: float = 0.0
    """as text_mse"""
    image_ce: float = 0.0
    """as text_ce"""

    def __post_init__(self) -> None:
        for name in WEIGHTS:
            _require(getattr(self, name) >= 0, f"loss.{name}", "must not be negative")
        weighted = any(getattr(self, name) > 0 for name in RECONSTRUCTION_WEIGHTS)
        _require(weighted, "loss", f"must give weight to one of {', '.join(RECONSTRUCTION_WEIGHTS)}")
        _require(self.temperature > 0, "loss.temperature", "must be positive")
        _require(self.vertex_form in VERTEX_FORMS, "loss.vertex_form", f"must be one of {VERTEX_FORMS}")
        _require(0 < self.vertex_sample <= MAX_SIZE, "loss.vertex_sample", f"must lie between 1 and {MAX_SIZE}")

    @property
    def needs_text(self) -> bool:
        """Whether captions are embedded at all."""
        return any(getattr(self, name) > 0 for name in (*TEXT_WEIGHTS, "contrast", "text_decode", "edit"))

    @property
    def needs_images(self) -> bool:
        """Whether pictures are."""
        return any(getattr(self, name) > 0 for name in IMAGE_WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """AdamW with a linear warm-up and a cosine decay."""

    init: str = ""
    """run directory, or checkpoint, whose weights to start from; random weights if empty"""
    steps: int = 10_000
    epochs: int = 0
    """instead of steps, how often every piece is seen; with data.piece only"""
    batch: int = 20
    """windows per step"""
    text_batch: int = 0
    """of these, how many captions are decoded towards exemplars, and how many edits"""
    lr: float = 1e-4
    warmup: int = 500
    final: float = 0.1
    """share of the learning rate that is left at the last step; 1 keeps it as it is"""
    weight_decay: float = 0.01
    clip: float = 1.0
    """largest norm of the gradient; 0 sets no limit"""
    checkpoint_every: int = 500
    """steps between checkpoints"""
    precision: str = "fp32"
    """of the model's products: fp32, or bf16, which GPUs have since 2020; weights and losses are fp32 in any case"""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "lr", "checkpoint_every"):
            _require(getattr(self, name) > 0, f"optim.{name}", "must be positive")
        for name in ("epochs", "clip", "weight_decay"):
            _require(getattr(self, name) >= 0, f"optim.{name}", "must not be negative")
        known = f"must be one of {TRAINING_PRECISIONS}"
        _require(self.precision in TRAINING_PRECISIONS, "optim.precision", known)
        _require(0 <= self.final <= 1, "optim.final", "must lie in [0, 1]")
        _require(0 <= self.warmup <= self.steps, "optim.warmup", "must lie between 0 and optim.steps")
        _require(0 <= self.text_batch <= self.batch, "optim.text_batch", "must lie between 0 and optim.batch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run."""

    name: str
    text_space: str = "minilm-l6"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        _require(_NAME.fullmatch(self.name) is not None, "name", "must be letters, digits, '.', '-' and '_'")
        _require(self.text_space in TEXT_SPACES, "text_space", f"must be one of {TEXT_SPACES}")
        _require(0 <= self.seed < 2**32, "seed", "must lie in [0, 2^32)")
        _require(self.data.piece > 0 or self.optim.epochs == 0, "optim.epochs", "needs data.piece")
        _require(self.data.piece == 0 or self.optim.text_batch == 0, "optim.text_batch", "must be 0 with data.piece")


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises RecipeError with the file and the dotted key."""
    try:
        table = read_toml(path)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file", "recipes/ holds examples") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise RecipeError(f"{path}: not a readable TOML file ({error})") from None
    try:
        return recipe_from_dict(table)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.message}", error.hint) from None


def recipe_from_dict(table: dict[str, Any]) -> Recipe:
    """Check a parsed recipe. Raises RecipeError with the dotted key."""
    return _build(Recipe, table, "")


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, complete, fit for JSON and for recipe_from_dict."""
    return dataclasses.asdict(recipe)


_T = TypeVar("_T")


def _build(kind: type[_T], table: dict[str, Any], prefix: str) -> _T:
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            raise RecipeError(f"unknown key {prefix}{key[:60]}", f"did you mean {prefix}{near[0]}?" if near else "")
    missing = [
        name
        for name, item in fields.items()
        if name not in table and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecipeError(f"{prefix}{missing[0]} is missing")
    return kind(**{key: _value(hints[key], value, f"{prefix}{key}") for key, value in table.items()})


def _value(kind: Any, value: Any, key: str) -> Any:
    """`value` as the type of its field: TOML has no tuples, and writes whole floats as integers."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise RecipeError(f"{key} must be a table, not {shown(value)}")
        return _build(kind, value, f"{key}.")
    if isinstance(kind, types.GenericAlias):
        arguments = typing.get_args(kind)
        open_ended = arguments[-1] is Ellipsis
        if not isinstance(value, (list, tuple)) or not (open_ended or len(value) == len(arguments)):
            raise RecipeError(
                f"{key} must be a list{'' if open_ended else f' of {len(arguments)}'}, not {shown(value)}"
            )
        return tuple(_value(arguments[0], item, key) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**53 else math.inf
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RecipeError(f"{key} must be {kind.__name__}, not {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{key} must be a finite number, not {shown(value)}")
    return value
