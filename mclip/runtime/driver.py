"""Whether there is a GPU to try."""

from __future__ import annotations

import sys
from pathlib import Path


def has_nvidia_driver() -> bool:
    """Whether trying CUDA is worth its second of start-up."""
    if sys.platform == "win32":
        return Path("C:/Windows/System32/nvcuda.dll").exists()
    return Path("/dev/nvidiactl").exists()
