"""Names that layers which do not know each other agree on; opening a pack needs no recipe."""

from __future__ import annotations

# How motions are written as features, see mclip.runtime.representation.
REPRESENTATIONS = ("smpl24", "motionclip-legacy")

# Between an action and the way it is done, in the label of a motion: "walk/old".
STYLE_SEPARATOR = "/"
# The style that is no particular one: "walk/normal" says as much as "walk".
PLAIN_STYLE = "normal"
