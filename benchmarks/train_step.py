"""A training step at the paper's size against a plain one: python -m benchmarks.train_step [--steps N] [--quick]

"plain" is a step as the original takes it: torch's own TransformerEncoder and -Decoder, default AdamW, CLIP's towers
run for the batch's captions and pictures, and both motions' vertices skinned by smplx. "ours" is `mclip train`'s, with
each form of the vertex loss, from cached embeddings. Sides take turns in one process; processor time on a CPU, time on
a GPU (--device cuda, where the plain side is left out and --bf16 counts). Before, the exact form's loss is compared
with that of smplx. --quick is a small model without the plain side, to see that it runs. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import machine
from benchmarks.vertex_loss import smplx_loss
from mclip.body.model import load_body
from mclip.data.dataset import Batch
from mclip.nn import losses
from mclip.nn.layers import positions
from mclip.nn.model import MotionClip
from mclip.nn.vertices import VertexLoss
from mclip.recipe import VERTEX_FORMS, Recipe, load_recipe
from mclip.train.objective import Objective
from mclip.train.world import World
from tests.clips import FULL, openai_clip

RECIPE = Path(__file__).parent.parent / "recipes" / "paper.toml"
_TEXT_TOKENS = 77


class Plain(nn.Module):
    """The paper's auto-encoder of torch's layers, time first."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        m = recipe.model
        shape = {"dim_feedforward": m.feedforward, "dropout": m.dropout, "activation": "gelu"}
        self.embed, self.final = nn.Linear(150, m.width), nn.Linear(m.width, 150)
        self.tokens = nn.Parameter(torch.randn(2, 1, m.width))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(m.width, m.heads, **shape),  # type: ignore[arg-type]
            m.encoder_layers,
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(m.width, m.heads, **shape),  # type: ignore[arg-type]
            m.decoder_layers,
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and what they are decoded to, of features (B, T, 25, 6)."""
        x = self.embed(features.flatten(2).transpose(0, 1))  # (T, B, W)
        x = torch.cat([self.tokens.expand(-1, x.shape[1], -1), x])
        latent = self.encoder(x + positions(*x.shape[::2])[:, None])[:1]
        queries = positions(features.shape[1], x.shape[2])[:, None].expand(-1, x.shape[1], -1)
        made = self.final(self.decoder(queries, latent))
        return latent[0], made.transpose(0, 1).unflatten(-1, (25, 6))


def plain_step(recipe: Recipe, batch: Batch, clip: nn.Module) -> Callable[[], float]:
    model, vertices = Plain(recipe).train(), smplx_loss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    features, mask = torch.from_numpy(batch.features), torch.from_numpy(batch.mask)
    tokens = torch.randint(1, 400, (len(features), _TEXT_TOKENS))
    side = FULL["image_resolution"]
    pictures = torch.randn(len(features), 3, side, side)

    def step() -> float:
        with torch.no_grad():
            text, image = clip.encode_text(tokens), clip.encode_image(pictures)  # type: ignore[operator]
        latent, made = model(features)
        loss = 100 * losses.position_loss(made, features, mask) + 100 * losses.velocity_loss(made, features, mask)
        loss = loss + 100 * vertices(made, features, mask)
        loss = loss + losses.cosine_loss(latent, text) + losses.cosine_loss(latent, image)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss)

    return step


def our_step(recipe: Recipe, batch: Batch, device: torch.device, precision: str) -> Callable[[], float]:
    model = MotionClip(recipe.model).train().to(device)
    objective = Objective(recipe.loss, World(0, 1, device), precision)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total, _ = objective(model, batch)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return total.item()

    return step


def made_batch(recipe: Recipe, size: int) -> Batch:
    random = np.random.default_rng(0)
    width, frames = recipe.model.latent, recipe.data.window
    vectors = random.normal(size=(2, size, width)).astype(np.float32)
    empty = np.zeros((0, frames, 25, 6), np.float32), np.zeros((0, frames), bool)
    return Batch(
        features=random.normal(size=(size, frames, 25, 6)).astype(np.float32),
        mask=np.ones((size, frames), bool),
        text=vectors[0],
        label=np.arange(size),
        image=vectors[1],
        has_image=np.ones(size, bool),
        exemplar=empty[0],
        exemplar_mask=empty[1],
        other_text=vectors[0, :0],
        other=empty[0],
        other_mask=empty[1],
        has_other=np.zeros(0, bool),
    )


def check(batch: Batch) -> None:
    """The exact form of the vertex loss is what smplx makes of it."""
    wanted, mask = torch.from_numpy(batch.features[:2]), torch.from_numpy(batch.mask[:2])
    made = wanted + 0.1 * torch.randn_like(wanted)
    torch.testing.assert_close(VertexLoss(load_body())(made, wanted, mask), smplx_loss()(made, wanted, mask))


def main(steps: int, size: int, device: torch.device, precision: str, quick: bool) -> None:
    torch.manual_seed(0)
    recipe = load_recipe(RECIPE)
    if quick:
        small = replace(recipe.model, width=64, feedforward=64, encoder_layers=1, decoder_layers=1)
        recipe = replace(recipe, model=small)
    batch = made_batch(recipe, size)
    check(batch)
    sides: dict[str, Callable[[], float]] = {}
    if device.type == "cpu" and not quick:
        sides["plain"] = plain_step(recipe, batch, openai_clip("model").CLIP(**FULL).eval().requires_grad_(False))
    for form in VERTEX_FORMS:
        with_form = replace(recipe, loss=replace(recipe.loss, vertex_form=form))
        sides[form] = our_step(with_form, batch, device, precision)
    still = replace(recipe, model=replace(recipe.model, dropout=0.0), loss=replace(recipe.loss, vertex_form="gram"))
    sides["gram without dropout"] = our_step(still, batch, device, precision)
    if device.type == "cpu":
        sides["the same in bf16"] = our_step(still, batch, device, "bf16")
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(steps + 1):
        for name, step in sides.items():
            started = clock()
            step()  # reads the loss, so a GPU has finished
            if turn:
                seconds[name].append(clock() - started)
    result = {}
    for name, times in seconds.items():
        median = float(np.median(times))
        faster = float(np.median(seconds["plain"])) / median if "plain" in seconds else None
        result[name] = {"seconds": median, "windows_per_s": size / median, "faster": faster}
        print(f"{name:22} {median:9.4f} s  {size / median:9.1f} windows/s  {f'{faster:6.2f}x' if faster else ''}")
    print(json.dumps({"device": str(device), "batch": size, "precision": precision, "steps": result} | machine()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    main(given.steps, given.batch, torch.device(given.device), "bf16" if given.bf16 else "fp32", given.quick)
