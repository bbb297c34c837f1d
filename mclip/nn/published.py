"""CLIP's weights as they are published, and where they are looked for. Without torch."""

from __future__ import annotations

import os
from pathlib import Path

from mclip.nn.download import cache_folder

ENVIRONMENT = "MCLIP_CLIP_WEIGHTS"
URL = (
    "https://openaipublic.azureedge.net/clip/models/"
    "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt"
)
# openai-clip publishes the hash as the last folder of the URL.
SHA256 = URL.split("/")[-2]
FILE = URL.rsplit("/", 1)[-1]


def named_file() -> Path | None:
    """The file of weights that the environment names."""
    name = os.environ.get(ENVIRONMENT)
    return Path(name) if name else None


def openai_file() -> Path:
    """Where openai-clip keeps what it downloads."""
    return Path.home() / ".cache" / "clip" / FILE


def own_file() -> Path:
    """Where mclip does."""
    return cache_folder() / FILE
