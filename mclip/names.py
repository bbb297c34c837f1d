"""Names that layers which do not know each other agree on; opening a pack needs no recipe."""

from __future__ import annotations

# How motions are written as features, see mclip.runtime.representation.
REPRESENTATIONS = ("smpl24", "motionclip-legacy")
