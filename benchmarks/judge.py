"""A judge of what a motion shows: a temporal convolutional network on joints, trained on real recordings alone.

It knows nothing of packs, latents or texts. Dilated convolutions over time with residuals (Bai et al. 2018),
mean and maximum over the frames, and two answers: the action and, where the label names one, the style.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mclip import console
from mclip.data.dataset import WindowSampler
from mclip.data.store import MotionStore
from mclip.names import STYLE_SEPARATOR
from mclip.nn.rotations import joint_positions
from mclip.recipe import DataConfig

WINDOW, SHORTEST = 60, 20
_WIDTH, _DILATIONS = 128, (1, 2, 4, 8)
_CHANNELS = 24 * 3 + 3
_STEPS, _BATCH, _RATE = 1500, 48, 2e-3


class Judge(nn.Module):
    """Joints of windows to scores of actions and styles."""

    def __init__(self, actions: list[str], styles: list[str]) -> None:
        super().__init__()
        self.actions, self.styles = actions, styles
        self.enter = nn.Conv1d(_CHANNELS, _WIDTH, 3, padding=1)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(_WIDTH, _WIDTH, 5, padding=2 * dilation, dilation=dilation) for dilation in _DILATIONS
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, _WIDTH) for _ in _DILATIONS)
        self.action = nn.Linear(2 * _WIDTH, len(actions))
        self.style = nn.Linear(2 * _WIDTH, len(styles))

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """smpl24 features (B, T, 25, 6), mask (B, T) -> logits of actions (B, A) and styles (B, S)."""
        joints = joint_positions(features)  # (B, T, 24, 3)
        step = F.pad(joints[:, 1:, 0] - joints[:, :-1, 0], (0, 0, 1, 0)) * 10
        pose = joints - joints[:, :, :1] * torch.tensor([1.0, 1.0, 0.0])  # heights stay above the floor
        real = mask[:, None].to(features)  # (B, 1, T)
        x = torch.cat([pose.flatten(2), step], dim=-1).transpose(1, 2) * real  # (B, C, T)
        x = self.enter(x) * real
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = x + F.dropout(F.gelu(norm(convolution(x))), 0.1, self.training) * real
        mean = x.sum(-1) / real.sum(-1)
        pooled = torch.cat([mean, x.masked_fill(~mask[:, None], -1e3).amax(-1)], dim=-1)
        return self.action(pooled), self.style(pooled)

    @torch.no_grad()
    def judge(
        self, features: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Log-probabilities of actions (B, A) and styles (B, S) of windows of any length."""
        parts = [
            self(torch.from_numpy(features[at : at + 256]), torch.from_numpy(mask[at : at + 256]))
            for at in range(0, len(mask), 256)
        ]
        action, style = (torch.cat(part).log_softmax(-1).numpy() for part in zip(*parts, strict=True))
        return action, style


def split_label(label: str) -> tuple[str, str | None]:
    """Action and style of a label such as "walk/old"."""
    action, separator, style = label.partition(STYLE_SEPARATOR)
    return action, style if separator else None


def train_judge(store: MotionStore, seed: int = 0) -> Judge:
    """Train a judge on the training split of a store."""
    data = DataConfig(window=WINDOW, min_window=SHORTEST, balance=0.25, mirror=0.5, speed=(0.9, 1.1))
    sampler = WindowSampler(store, data, np.zeros((len(store.texts), 1), np.float32), seed=seed)
    pairs = [split_label(label) for label in sampler.labels]
    actions = sorted({action for action, _ in pairs})
    styles = sorted({style for _, style in pairs if style})
    action_of = torch.tensor([actions.index(action) for action, _ in pairs])
    style_of = torch.tensor([styles.index(style) if style else -1 for _, style in pairs])
    torch.manual_seed(seed)
    judge = Judge(actions, styles).train()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=_RATE, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=_STEPS)
    with console.progress("train the judge", _STEPS) as bar:
        for step in range(_STEPS):
            batch = sampler.batch(step, _BATCH, 0)
            action, style = judge(torch.from_numpy(batch.features), torch.from_numpy(batch.mask))
            label = torch.from_numpy(batch.label)
            loss = F.cross_entropy(action, action_of[label], label_smoothing=0.05)
            styled = style_of[label] >= 0
            if styled.any():
                loss = loss + F.cross_entropy(style[styled], style_of[label][styled], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            bar.advance()
    return judge.eval()


def cached_judge(store: MotionStore, folder: Path, seed: int = 0) -> Judge:
    """The judge kept in a folder, trained first if it is not there."""
    file = folder / f"judge-{seed}.pt"
    if file.is_file():
        state = torch.load(file, weights_only=True)
        judge = Judge(state["actions"], state["styles"])
        judge.load_state_dict(state["weights"])
        return judge.eval()
    judge = train_judge(store, seed)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"actions": judge.actions, "styles": judge.styles, "weights": judge.state_dict()}, file)
    return judge
