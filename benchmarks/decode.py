"""The motion graphs against torch, at the paper's size: python -m benchmarks.decode [--quick]

`reference` is torch.nn.TransformerDecoder and -Encoder, time first, with the weights of a random model of the paper's
size; `fp32` and `int8` are our graphs in onnxruntime, as a pack runs them, in chunks. Set OMP_NUM_THREADS=1 and bind
the process to one core (taskset -c 0): then all is on one thread. Before they are timed, fp32 has to agree with the
reference to 1e-5. On a busy machine the processor time says more. The last line is one JSON object: medians of [time,
processor time] in ms, and their ratios to the reference.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.timing import machine, milliseconds
from mclip.export.graphs import exportables, to_onnx
from mclip.export.precision import to_int8
from mclip.nn.layers import positions
from mclip.nn.model import MotionClip
from mclip.recipe import ModelConfig
from mclip.runtime.engine import CHUNK
from mclip.runtime.session import Session

FRAMES = 60
# The original's: its defaults, normalize off.
PAPER = ModelConfig(
    latent=512, width=512, feedforward=1024, encoder_layers=8, decoder_layers=8, heads=4, normalize=False
)


class Reference(nn.Module):
    """The original's transformers, time first, with the weights of ours; full windows alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        settings: dict[str, Any] = {"dropout": 0.0, "activation": "gelu"}
        sizes = (PAPER.width, PAPER.heads, PAPER.feedforward)
        self.model: Any = model
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(*sizes, **settings), PAPER.encoder_layers, enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(*sizes, **settings), PAPER.decoder_layers)
        for ours, theirs in zip(model.encoder.layers, _layers(self.encoder), strict=True):
            self._take(ours, theirs, {"attention_norm": "norm1", "feedforward_norm": "norm2"})
        for ours, theirs in zip(model.decoder.layers, _layers(self.decoder), strict=True):
            names = {"attention_norm": "norm1", "memory_norm": "norm2", "feedforward_norm": "norm3"}
            self._take(ours, theirs, names)
            width = PAPER.width
            theirs.multihead_attn.in_proj_weight[2 * width :].copy_(ours.memory[0].weight)
            theirs.multihead_attn.in_proj_bias[2 * width :].copy_(ours.memory[0].bias)
            theirs.multihead_attn.out_proj.load_state_dict(ours.memory[1].state_dict())

    @staticmethod
    def _take(ours: Any, theirs: Any, norms: dict[str, str]) -> None:
        pairs = {"attention.out": "self_attn.out_proj", "feedforward.0": "linear1", "feedforward.3": "linear2", **norms}
        for name, other in pairs.items():
            theirs.get_submodule(other).load_state_dict(ours.get_submodule(name).state_dict())
        theirs.self_attn.in_proj_weight.copy_(ours.attention.qkv.weight)
        theirs.self_attn.in_proj_bias.copy_(ours.attention.qkv.bias)

    def decode(self, z: Tensor) -> Tensor:
        queries = positions(FRAMES, PAPER.width)[:, None].expand(-1, len(z), -1)  # (T, B, W)
        padding = torch.zeros(len(z), FRAMES, dtype=torch.bool)
        out = self.decoder(queries, z[None], tgt_key_padding_mask=padding)
        features: Tensor = self.model.decoder.features(out)  # (T, B, 150)
        return features.transpose(0, 1).reshape(len(z), FRAMES, 25, 6)

    def encode(self, x: Tensor) -> Tensor:
        tokens = self.model.encoder.tokens[:, None].expand(-1, len(x), -1)
        h = torch.cat([tokens, self.model.encoder.embed(x.flatten(2).transpose(0, 1))])  # (2 + T, B, W)
        padding = torch.zeros(len(x), len(h), dtype=torch.bool)
        out: Tensor = self.encoder(h + positions(len(h), PAPER.width)[:, None], src_key_padding_mask=padding)
        return out[0]


def _layers(module: Any) -> Any:
    return module.layers


def chunked(session: Session, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """As the engine runs a graph."""
    mask = np.ones((CHUNK, FRAMES), np.bool_)
    parts = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    return np.concatenate([session.run(part, mask[: len(part)]) for part in parts])


def main(rounds: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # the original's torch had none
    model = MotionClip(PAPER).eval()
    with torch.inference_mode():
        reference = Reference(model).eval()
    random = np.random.default_rng(0)
    figures = {}
    for item in exportables(model, None, 0):
        graph = to_onnx(item)
        contents = {"fp32": graph.SerializeToString(), "int8": to_int8(graph).SerializeToString()}
        sessions = {name: Session(content, item.file, "cpu") for name, content in contents.items()}
        decoding = item.file == "motion_decoder"
        run = reference.decode if decoding else reference.encode
        for batch in (1, 8, 64) if decoding else (64,):
            shape = (batch, PAPER.latent) if decoding else (batch, FRAMES, 25, 6)
            rows = random.standard_normal(shape).astype(np.float32)
            with torch.inference_mode():
                expected = run(torch.from_numpy(rows)).numpy()
                found = {name: chunked(session, rows) for name, session in sessions.items()}
                error = {name: float(np.abs(values - expected).max()) for name, values in found.items()}
                assert error["fp32"] <= 1e-5, error
                sides: dict[str, Callable[[], object]] = {"reference": partial(run, torch.from_numpy(rows))}
                sides |= {name: partial(chunked, session, rows) for name, session in sessions.items()}
                times = milliseconds(sides, max(1, rounds // (1 + batch // 8)))
            ratio = {name: [round(times["reference"][i] / times[name][i], 2) for i in range(2)] for name in sessions}
            name = f"{item.file.removeprefix('motion_')} B={batch}"
            figures[name] = {"ms": times, "ratio": ratio, "error": error}
            print(
                f"{name:14} " + "  ".join(f"{side} {wall:.1f} ms ({cpu:.1f})" for side, (wall, cpu) in times.items()),
                ratio,
            )
    print(json.dumps(figures | machine()))


if __name__ == "__main__":
    main(3 if "--quick" in sys.argv else 31)
