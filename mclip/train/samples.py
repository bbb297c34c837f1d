"""What a run's newest checkpoint makes of recordings it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mclip.data.dataset import spans_of
from mclip.data.store import read_store
from mclip.errors import DataError
from mclip.motion import Motion
from mclip.runtime.representation import features_to_motion, motion_to_features, representation
from mclip.train.checkpoint import load_model


class Sample(NamedTuple):
    """A window as it was recorded, and as it is decoded from its latent."""

    caption: str
    recorded: Motion
    decoded: Motion


def samples(run: Path, count: int) -> list[Sample]:
    """Up to `count` samples of the recipe's store, evenly chosen from split "val", or from "train" where there is none.

    Raises DataError when the run holds no checkpoint, or its store is not where the recipe says or has no captions.
    """
    model, recipe = load_model(run)
    store, data = read_store(Path(recipe.data.store)), recipe.data
    split = "val" if "val" in store.split else "train"
    spans = spans_of(store, split, data.exclude, data.min_window)
    kind = representation(data.representation)
    chosen = np.unique(np.linspace(0, len(spans) - 1, count).round().astype(int)).tolist()
    made = []
    for span in (spans[row] for row in chosen):
        index = int(np.searchsorted(store.offsets, span.start, side="right")) - 1
        first = span.start - int(store.offsets[index])
        stop = span.stop - int(store.offsets[index])
        recorded = store.motion(index).slice(first, min(stop, first + data.window))
        features = motion_to_features(recorded, kind)
        with torch.inference_mode():
            mask = torch.ones(1, len(features), dtype=torch.bool)
            z = model.encode(torch.from_numpy(features)[None], mask)
            decoded = model.decode(z, mask)[0].numpy()
        if not np.isfinite(decoded).all():
            raise DataError(f"{run}: the checkpoint decodes to NaN or infinite values", "it was trained too fast")
        # Both as the model sees them: where and which way a window began is not in its features.
        made.append(
            Sample(store.labels[span.label], *(features_to_motion(x, store.fps, kind) for x in (features, decoded)))
        )
    return made
