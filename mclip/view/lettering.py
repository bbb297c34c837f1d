"""Text in pictures: in Pillow's own font, and what that cannot write in the first font of the system that can."""

from __future__ import annotations

import functools
import unicodedata
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Of Linux, macOS and Windows: first those with most of the world's alphabets, then those with single scripts.
FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "segoeui.ttf", "Arial.ttf", "arial.ttf",
    "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "Hiragino Sans GB.ttc", "msyh.ttc", "YuGothM.ttc", "malgun.ttf",
    "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "Nirmala.ttf",
)  # fmt: skip
# No character: what a font draws for it, it draws for all that it lacks.
_NONE = "\uffff"


def lettering(text: str, size: float) -> tuple[str, Font]:
    """The font that lacks least of a text, and the text as it writes it: what it lacks loses its marks, or is a "?"."""
    font: Font = ImageFont.load_default(size)
    lacking = _lacks(font, text)
    for name in FONTS if lacking else ():
        other = _system_font(name, size)
        if other is not None and len(left := _lacks(other, text)) < len(lacking):
            font, lacking = other, left
    return "".join(_plain(c) if c in lacking else c for c in text), font


def _plain(letter: str) -> str:
    return unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


@functools.cache
def _system_font(name: str, size: float) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _lacks(font: Font, text: str) -> set[str]:
    """The characters of a text that a font does not have."""
    others = {c for c in text if not (c.isascii() or c.isspace() or unicodedata.combining(c))}
    if not others:
        return set()
    none = bytes(font.getmask(_NONE))
    return {c for c in others if bytes(font.getmask(c)) == none}
