"""mclip: human motion from a sentence (MotionCLIP, ECCV 2022, made usable). In Python: see mclip.api."""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Before it is loaded: newer onnxruntimes note every session in the user's cache folder, for their maker to have.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from mclip.api import Engine, Page, load, open_pack, save, show
    from mclip.motion import Motion

__all__ = ["Engine", "Motion", "Page", "__version__", "load", "open_pack", "save", "show"]


def __getattr__(name: str) -> Any:
    """What `mclip.api` offers, loaded when it is first asked for: `mclip --help` needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module 'mclip' has no attribute {name!r}")
    # By its name: every module of the package is below this one, and none may be above itself.
    return getattr(importlib.import_module("mclip.api"), name)


def __dir__() -> list[str]:
    return __all__
