"""Which way is up, how long a unit is and which joints there are, where a format leaves that open.

    suffix  up        unit            joints
    .npz    z (or y)  metre           SMPL+H's 52, or SMPL's 24 or SMPL-X's 55: `layout`
    .bvh    y (or z)  centimetre (*)  SMPL's 24
    .glb    y         metre           SMPL's 24
    .csv    z (or y)  metre (*)       SMPL's 24, positions
    .npy    y (or z)  metre (*)       SMPL's first 22, positions, as in HumanML3D

(*) or any other: `scale`. All axes are right-handed; (x, y, z) with Z up is (x, z, -y) with Y up.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mclip.errors import UsageError, choices
from mclip.motion import LAYOUTS

CENTIMETRES = 100.0
# From a light second to a micrometre: beyond is a slip of the finger.
_MIN_SCALE, _MAX_SCALE = 1e-6, 1e6
_UP = {".npz": "z", ".bvh": "y", ".glb": "y", ".csv": "z", ".npy": "y"}
_SCALE = {".bvh": CENTIMETRES}
_UNITS = {1.0: "metres", 100.0: "centimetres", 1000.0: "millimetres"}


class Style(NamedTuple):
    """What a writer is told; None is what the format's users expect, see the module docstring.

    up      "y" or "z"
    scale   units of length in a metre: 100 for centimetres
    layout  "smpl", "smplh" or "smplx": the joints of a .npz
    """

    up: str | None = None
    scale: float | None = None
    layout: str | None = None


class Chosen(NamedTuple):
    """A Style without gaps."""

    up: str
    scale: float
    layout: str

    @property
    def unit(self) -> str:
        """The unit of length in words."""
        return _UNITS.get(self.scale, f"1/{self.scale:g} m")


def choose(path: Path, style: Style) -> Chosen:
    """The style of a file to be written to `path`. Raises UsageError for what its format cannot have."""
    suffix = path.suffix.lower()
    if style.up not in (None, "y", "z"):
        raise UsageError(f"--up {style.up} is no axis that can point up", "choose y or z")
    if style.layout is not None and style.layout not in LAYOUTS:
        raise UsageError(f"there is no layout {style.layout!r}", choices(style.layout, LAYOUTS))
    if style.layout is not None and suffix != ".npz":
        raise UsageError(f"--layout has no effect on {suffix} files", "it chooses the joints of a .npz")
    if style.scale is not None and not _MIN_SCALE <= style.scale <= _MAX_SCALE:
        raise UsageError(f"--scale {style.scale:g} is not between {_MIN_SCALE:g} and {_MAX_SCALE:g}")
    if suffix in (".npz", ".glb") and style.scale not in (None, 1.0):
        raise UsageError(f"--scale has no effect on {suffix} files: they are in metres", "leave it out")
    if suffix == ".glb" and style.up == "z":
        raise UsageError("--up z has no effect on .glb files: glTF is Y up, and readers turn it", "leave it out")
    return Chosen(style.up or _UP[suffix], style.scale or _SCALE.get(suffix, 1.0), style.layout or "smplh")
