"""Checkpoints of the original MotionCLIP: `checkpoint_0100.pth.tar` and the `opt.yaml` beside it.

The first is a torch archive of named tensors, the second the options of the training run. Every tensor is accounted
for: taken into mclip.nn.paper, checked against what it must be, known to be without effect, or an error.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from mclip.errors import DataError, RecipeError, shown
from mclip.files import open_regular
from mclip.nn.layers import positions
from mclip.nn.model import MotionClip
from mclip.recipe import DataConfig, ModelConfig, Recipe, recipe_to_dict
from mclip.runtime.representation import COLUMNS, LEGACY, ROWS

OPTIONS = "opt.yaml"
# The first is the original's; the others are what people rename it to.
SUFFIXES = (".pth.tar", ".pth", ".pt", ".tar")
TEXT_SPACE = "clip-vit-b32"
# The paper's model takes 0.17 GB; with all of CLIP inside it would be 0.8.
MAX_CHECKPOINT_BYTES = 2_000_000_000
# The original's is a kilobyte, a few dozen values; its reader takes a second for a hundred.
MAX_OPTIONS_BYTES = 64_000

# The original leaves CLIP out of its checkpoints. Where it was left in, it is the text space's business, not ours.
_CLIP = "clip_model."
# What the original can be told, and we cannot: with any other value these are not MotionCLIP as published.
_FIXED: Mapping[str, object] = {
    "modeltype": "motionclip",
    "archiname": "transformer",
    "pose_rep": "rot6d",
    "njoints": ROWS,
    "nfeats": COLUMNS,
    "num_classes": 1,
    "glob": True,
    "translation": True,
    "activation": "gelu",
}
# Length of the table of positional encodings, whose angles reach this: float32 ends after three decimals there.
_POSITIONS = 5000
_POSITION_TOLERANCE = 1e-3

# Names in a message.
_SHOWN = 6
# Ours on the left, the original's on the right; LAYERS are those of torch.nn.TransformerEncoder and -Decoder.
_ENCODER = {"embed": "skelEmbedding"}
_DECODER = {"features": "finallayer"}
_LAYER = {"attention.out": "self_attn.out_proj", "feedforward.0": "linear1", "feedforward.3": "linear2"}
_ENCODER_LAYER = {**_LAYER, "attention_norm": "norm1", "feedforward_norm": "norm2"}
_DECODER_LAYER = {
    **_LAYER,
    "memory.1": "multihead_attn.out_proj",
    "attention_norm": "norm1",
    "memory_norm": "norm2",
    "feedforward_norm": "norm3",
}


def is_official(path: Path) -> bool:
    """Whether a path is meant as an original checkpoint: ours are folders."""
    return path.name.endswith(SUFFIXES) and not path.is_dir()


def load_official(path: Path) -> tuple[MotionClip, Recipe]:
    """The model of an original checkpoint, ready for inference, and what is known of its training as a recipe.

    Raises DataError for anything but a whole checkpoint with its options, of a model we have.
    """
    config, frames = _read_options(path)
    # Before the model: options can ask for one of any size.
    tensors = _convert(path, _read_tensors(path), config)
    model = MotionClip(config)
    model.load_state_dict(tensors)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().parent.name)[:100].lstrip("._-")
    data = DataConfig(representation=LEGACY.name, window=frames, min_window=frames)
    return model.eval(), Recipe(name=name or "motionclip", text_space=TEXT_SPACE, data=data, model=config)


def known_of(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe from `load_official` that is known: the rest of it are our defaults."""
    table = recipe_to_dict(recipe)
    data = {key: table["data"][key] for key in ("representation", "window", "min_window")}
    return {"name": recipe.name, "text_space": recipe.text_space, "data": data, "model": table["model"]}


class _OptionsLoader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain YAML without merged tables: a few lines that merge each other make more entries than memory holds."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for every table. Raises ConstructorError for one that merges others."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "it merges tables", node.start_mark)


def _read_options(checkpoint: Path) -> tuple[ModelConfig, int]:
    """The model, and the frames of a window, that the options beside a checkpoint describe."""
    path = checkpoint.with_name(OPTIONS)
    if not checkpoint.exists():
        raise DataError(f"{checkpoint}: no such file")
    if not path.exists():
        raise DataError(f"{path}: is missing", f"copy it from the folder {checkpoint.name} comes from")
    try:
        with open_regular(path) as file:
            content = file.read(MAX_OPTIONS_BYTES + 1)
        if len(content) > MAX_OPTIONS_BYTES:
            raise DataError(f"{path}: is larger than {MAX_OPTIONS_BYTES} bytes", "is it the original's?")
        options = _OptionsLoader(content.decode("utf-8")).get_single_data()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: is not plain YAML ({' '.join(str(error).split())})") from None
    if not isinstance(options, dict):
        raise DataError(f"{path}: holds no options")
    for key, value in _FIXED.items():
        if options.get(key, value) != value:
            raise DataError(f"{path}: {key} is {shown(options[key])}; mclip reads models with {value!r} only")
    # Of variants of the original.
    for key in ("ablation", "normalize_encoder_output", "normalize_decoder_input", "align_pose_frontview"):
        if options.get(key):
            raise DataError(f"{path}: {key} is {shown(options[key])}; mclip reads models without it only")
    width, layers = _integer(path, options, "latent_dim"), _integer(path, options, "num_layers")
    try:
        config = ModelConfig(
            latent=width,
            width=width,
            encoder_layers=layers,
            decoder_layers=layers,
            # The original's defaults, which its options file does not name.
            feedforward=_integer(path, options, "ff_size", 1024),
            heads=_integer(path, options, "num_heads", 4),
            normalize=False,
        )
        frames = _integer(path, options, "num_frames")
        DataConfig(window=frames, min_window=frames)
    except RecipeError as error:
        raise DataError(f"{path}: {error.message}") from None
    return config, frames


def _integer(path: Path, options: dict[Any, Any], key: str, default: int | None = None) -> int:
    value = options.get(key, default)
    if value is None:
        raise DataError(f"{path}: has no {key}", "is it the options file of this checkpoint?")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataError(f"{path}: {key} is {shown(value)}, not a positive number")
    return value


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a torch archive. Nothing in it is run."""
    try:
        if path.stat().st_size > MAX_CHECKPOINT_BYTES:
            raise DataError(f"{path}: is larger than {MAX_CHECKPOINT_BYTES / 1e9:g} GB")
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_CHECKPOINT_BYTES:
                raise DataError(f"{path}: unpacks to more than {MAX_CHECKPOINT_BYTES / 1e9:g} GB")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise DataError(f"{path}: is compressed, as torch's own checkpoints never are", "copy it again")
            damaged = archive.testzip()
        if damaged:
            raise DataError(f"{path}: is damaged at {damaged}", "copy it again")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except zipfile.BadZipFile:
        raise DataError(f"{path}: is cut short, or no checkpoint of torch", "copy it again") from None
    except pickle.UnpicklingError:
        # What torch's message adds is how to run the code all the same.
        raise DataError(f"{path}: holds more than tensors, code perhaps; it was not run") from None
    except DataError:
        raise
    except Exception as error:
        # A damaged archive makes torch and zipfile raise nearly anything.
        raise DataError(f"{path}: is no readable checkpoint ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds no table of tensors")
    tensors = {str(name): value for name, value in content.items() if not str(name).startswith(_CLIP)}
    for name, value in tensors.items():
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout is not torch.strided:
            raise DataError(f"{path}: {name} is no tensor of numbers")
    return tensors


def _convert(path: Path, tensors: dict[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The original's tensors under our names."""
    shapes = _shapes(config)
    missing, unexpected = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or unexpected:
        parts = [
            f"{what} {', '.join(names[:_SHOWN])}" + (", ..." if len(names) > _SHOWN else "")
            for what, names in (("lacks", missing), ("has unknown", unexpected))
            if names
        ]
        raise DataError(f"{path}: {' and '.join(parts)}", f"does {OPTIONS} belong to it?")
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape)
        if found != shape:
            raise DataError(f"{path}: {name} has shape {found}, not {shape}", f"does {OPTIONS} belong to it?")
        # Not before: a few bytes can claim to be a tensor of any shape.
        if not tensors[name].isfinite().all():
            raise DataError(f"{path}: {name} holds NaN or infinite values")
    for part in ("encoder", "decoder"):
        table = tensors[f"{part}.sequence_pos_encoder.pe"][:, 0]
        if not torch.allclose(table, positions(_POSITIONS, config.width), rtol=0, atol=_POSITION_TOLERANCE):
            raise DataError(f"{path}: {part}.sequence_pos_encoder.pe is not the original's positional encoding")
    # decoder.actionBiases is of no effect: the original adds it to nothing.
    result = {ours: tensors[theirs] for ours, theirs in _names(config).items()}
    result["encoder.tokens"] = torch.cat([tensors["encoder.muQuery"], tensors["encoder.sigmaQuery"]])
    for layer in range(config.decoder_layers):
        # Attention over a memory of one token (mclip.nn.paper) needs neither queries nor keys, the first two thirds.
        for kind in ("weight", "bias"):
            maps = tensors[f"decoder.seqTransDecoder.layers.{layer}.multihead_attn.in_proj_{kind}"]
            result[f"decoder.layers.{layer}.memory.0.{kind}"] = maps[2 * config.width :]
    return result


def _names(config: ModelConfig) -> dict[str, str]:
    """Our names of tensors we take as they are, and the original's."""
    names: dict[str, str] = {}
    for part, stack, count, own, of_layer in (
        ("encoder", "seqTransEncoder", config.encoder_layers, _ENCODER, _ENCODER_LAYER),
        ("decoder", "seqTransDecoder", config.decoder_layers, _DECODER, _DECODER_LAYER),
    ):
        for kind in ("weight", "bias"):
            names |= {f"{part}.{ours}.{kind}": f"{part}.{theirs}.{kind}" for ours, theirs in own.items()}
            for layer in range(count):
                ours_at, theirs_at = f"{part}.layers.{layer}", f"{part}.{stack}.layers.{layer}"
                names[f"{ours_at}.attention.qkv.{kind}"] = f"{theirs_at}.self_attn.in_proj_{kind}"
                names |= {f"{ours_at}.{o}.{kind}": f"{theirs_at}.{t}.{kind}" for o, t in of_layer.items()}
    return names


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The original's names, and the shapes its tensors must have."""
    with torch.device("meta"):
        ours = MotionClip(config).state_dict()
    width = config.width
    shapes = {theirs: tuple(ours[name].shape) for name, theirs in _names(config).items()}
    for name in ("encoder.muQuery", "encoder.sigmaQuery", "decoder.actionBiases"):
        shapes[name] = (1, width)
    for part in ("encoder", "decoder"):
        shapes[f"{part}.sequence_pos_encoder.pe"] = (_POSITIONS, 1, width)
    for layer in range(config.decoder_layers):
        name = f"decoder.seqTransDecoder.layers.{layer}.multihead_attn.in_proj_"
        shapes |= {f"{name}weight": (3 * width, width), f"{name}bias": (3 * width,)}
    return shapes
